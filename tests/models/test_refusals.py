"""What a model would refuse, known before it is asked: against a server that refuses as the families do."""

from __future__ import annotations

import itertools
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from family_refusals import FAMILIES, NEVER_REASONS, family_refusal
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.models.refusals import Refusal, lines_for, refusal_of
from logprob_store.models.table import Takes, shipped_table
from logprob_store.request import PATHS, Request, build_body, make_request
from logprob_store.spending.price_table import listed_price

if TYPE_CHECKING:
    from collections.abc import Mapping

TABLE = shipped_table()
GROQ, FIREWORKS = "https://api.groq.com/openai/v1", "https://api.fireworks.ai/inference/v1"
OPENROUTER = "https://openrouter.ai/api/v1"


def request(name: str, endpoint: str = "chat", *, top: int = 5, logprobs: bool = True, **params: Any) -> Request:
    """A request as a job makes it."""
    body = build_body(endpoint, model=name, prompt="x", logprobs=logprobs, top_logprobs=top, params=params)
    return make_request(body, endpoint=endpoint, provider="p")


def refusal(name: str, endpoint: str = "chat", *, base_url: str | None = None, **given: Any) -> Refusal | None:
    """What is known against a request."""
    known = TABLE.known(name, base_url=base_url)
    assert known is not None
    return refusal_of(request(name, endpoint, **given), known, TABLE)


def written(found: Refusal | None) -> dict[str, Any]:
    """The lines to write, read back from the sentence."""
    assert found is not None
    said = found.sentence()
    if "write under [model]:\n" in said:  # below it, as they stand in a job file
        return tomllib.loads(said.partition("write under [model]:\n")[2].partition("\nand under")[0])
    line = said.partition("write under [model]: ")[2].rpartition(" (")[0]
    return tomllib.loads(line.removesuffix(", or logprobs = false to do without"))


def test_the_line_of_a_model_that_reasons_by_default() -> None:
    """One sentence: what is wrong, and the line to write."""
    found = refusal("gpt-6-luna", max_tokens=64)

    assert str(found and found.sentence()).startswith(
        "gpt-6-luna gives logprobs only at reasoning effort none, which is not its default, and takes "
        "max_completion_tokens in place of max_tokens: write under [model]: "
        'params = { reasoning_effort = "none", max_completion_tokens = 64 } (https://'
    )


def test_the_line_over_responses() -> None:
    """The effort is inside `reasoning` there, and keeps what stands beside it."""
    found = refusal("gpt-6-luna", "responses", reasoning={"effort": "low", "summary": "auto"}, max_output_tokens=64)

    assert written(found) == {
        "params": {"reasoning": {"effort": "none", "summary": "auto"}, "max_output_tokens": 64},
    }


def test_a_model_that_gives_none() -> None:
    """Another one is named, with the job's parameters as that one takes them."""
    assert written(refusal("gpt-6-astra", max_tokens=64, temperature=0, stop=["."])) == {
        "name": "gpt-6-luna",
        "params": {"reasoning_effort": "none", "max_completion_tokens": 64, "temperature": 0},
    }


def test_several_lines_stand_below_the_sentence() -> None:
    """As they are to be written, so that they can be taken over."""
    found = refusal("gpt-6-astra", max_completion_tokens=64)

    assert str(found and found.sentence()).splitlines()[1:] == [
        '  name = "gpt-6-luna"',
        '  params = { reasoning_effort = "none", max_completion_tokens = 64 }',
    ]


@pytest.mark.parametrize("tier", ["flex", "ultrafast"])
def test_a_tier_that_a_model_is_not_served_by(tier: str) -> None:
    """Of transport.tier the line of [transport] is said."""
    known = TABLE.known("gpt-4o-mini", base_url=None)
    assert known is not None
    found = refusal_of(request("gpt-4o-mini"), known, TABLE, sent_tier=tier)

    assert str(found and found.sentence()).startswith(
        f'gpt-4o-mini is not served by the tier "{tier}", only by "default" and "priority": '
        'write under [transport]: tier = "default" ('
    )
    assert "https://openai.com/api-priority-processing of 2026-" in str(found and found.sentence())


def test_a_tier_among_the_parameters() -> None:
    """It is taken out of them."""
    assert written(refusal("gpt-4o-mini", max_tokens=5, service_tier="flex")) == {"params": {"max_tokens": 5}}


@pytest.mark.parametrize("tier", ["auto", "default", "priority", "fast", None])
def test_tiers_that_a_model_is_served_by(tier: str | None) -> None:
    """`fast` is another name of priority."""
    assert refusal("gpt-4o-mini", max_tokens=5, service_tier=tier) is None


def test_a_tier_with_other_lines() -> None:
    """Each under the section that it belongs to."""
    known = TABLE.known("gpt-4o-mini", base_url=None)
    assert known is not None
    found = refusal_of(request("gpt-4o-mini", top=30), known, TABLE, sent_tier="flex")

    assert str(found and found.sentence()).splitlines()[-3:] == [
        "  top_logprobs = 20",
        "and under [transport]:",
        '  tier = "default"',
    ]


def test_a_service_with_tiers_of_its_own() -> None:
    """Azure sells other models by flex than OpenAI does."""
    azure = "https://mine.openai.azure.com"
    assert refusal("gpt-4o-mini", base_url=azure, max_tokens=5, service_tier="flex") is None


@pytest.mark.parametrize(
    "name",
    ["temperature", "stop", "max_tokens", "max_completion_tokens", "max_output_tokens", "reasoning_effort",
     "top_logprobs", "service_tier", "stream", "n"],
)  # fmt: skip
def test_what_a_request_for_decisions_does_not_have(name: str) -> None:
    """https://github.com/openai/openai-python, 3.54: `decisions.create` has no such parameter."""
    found = refusal("gpt-6-luna", "decisions", safety_identifier="u", **{name: 1})

    assert written(found) == {"params": {"safety_identifier": "u"}}
    assert "(decisions.create of OpenAI's SDK, 3.54" in str(found and found.sentence())


@pytest.mark.parametrize("name", ["prompt_cache_key", "prompt_cache_options", "safety_identifier"])
def test_what_a_request_for_decisions_may_have(name: str) -> None:
    """And the questions, which are no parameter to be written."""
    assert refusal("gpt-6-luna", "decisions", **{name: "x"}) is None


@pytest.mark.parametrize("name", ["gpt-4-turbo", "gpt-4", "gpt-3.5-turbo", "gpt-4.1-nano", "gpt-5.4-mini"])
def test_only_some_models_decide(name: str) -> None:
    """Of OpenAI's, gpt-6-luna alone, and questions are asked nowhere else."""
    assert written(refusal(name, "decisions")) == {"name": "gpt-6-luna"}


def test_each_row_of_the_table_says_where_its_models_are_offered() -> None:
    """Unsaid it would mean everywhere, also at endpoints that came later."""
    assert [row.names for row in TABLE.models if "endpoints" not in row.model_fields_set] == []


@pytest.mark.parametrize("name", ["gpt-5.4-mini", "gpt-5.6-luna"])
def test_one_token_is_too_few_for_some(name: str) -> None:
    """They cannot finish a message in it; 16 are surely enough."""
    assert written(refusal(name, reasoning_effort="none", max_completion_tokens=1)) == {
        "params": {"reasoning_effort": "none", "max_completion_tokens": 16}
    }
    assert refusal(name, reasoning_effort="none", max_completion_tokens=2) is None


def test_the_tiers_of_a_model_have_prices() -> None:
    """The two tables say the same."""
    for row in TABLE.models:
        for name in row.names:
            listed = listed_price(name)
            if row.tiers is not None and listed is not None:
                assert all(listed.prices.knows(tier) for tier in row.tiers), name
                assert "priority" in row.tiers or not listed.prices.knows("priority"), name


def test_a_model_that_gives_none_asked_for_none() -> None:
    """Only its parameters are looked at."""
    assert refusal("gpt-6-astra", logprobs=False, max_completion_tokens=64) is None
    assert written(refusal("gpt-6-astra", logprobs=False, max_tokens=64, temperature=0)) == {
        "params": {"max_completion_tokens": 64}
    }


def test_effort_none_where_it_is_not_taken() -> None:
    """It is taken out."""
    assert written(refusal("gpt-6-astra", logprobs=False, reasoning_effort="none")) == {"params": {}}


@pytest.mark.parametrize("params", [{"temperature": 1}, {"top_p": 1.0}, {"presence_penalty": 0}])
def test_defaults_are_taken_while_it_reasons(params: dict[str, Any]) -> None:
    """They were seen to be."""
    assert refusal("o3", logprobs=False, **params) is None


@pytest.mark.parametrize(
    ("endpoint", "params", "fixed"),
    [
        ("responses", {"max_tokens": 64}, {"max_output_tokens": 64}),
        ("responses", {"max_completion_tokens": 64}, {"max_output_tokens": 64}),
        ("chat", {"max_output_tokens": 64}, {"max_completion_tokens": 64}),
    ],
)
def test_a_maximum_by_the_name_of_another_endpoint(
    endpoint: str, params: dict[str, Any], fixed: dict[str, Any]
) -> None:
    """OpenAI refuses it, whatever the model."""
    assert written(refusal("gpt-4o-mini", endpoint, **params)) == {"params": fixed}


def test_a_maximum_that_responses_do_not_take() -> None:
    """The fewest tokens are 16 there."""
    assert written(refusal("gpt-4o-mini", "responses", max_output_tokens=1)) == {"params": {"max_output_tokens": 16}}


def test_an_endpoint_at_which_it_is_not_offered() -> None:
    """Legacy completions are for older models."""
    assert written(refusal("gpt-6-luna", "completions")) == {"endpoint": "chat"}


@pytest.mark.parametrize(
    ("name", "base_url", "top", "most"),
    [
        ("gpt-4o-mini", None, 21, 20),
        ("gpt-5.4-mini", None, 6, 5),
        ("accounts/fireworks/models/x", FIREWORKS, 6, 5),
        ("grok-4", "https://api.x.ai/v1", 9, 8),
    ],
)
def test_more_alternatives_than_are_given(name: str, base_url: str | None, top: int, most: int) -> None:
    """Of a model or of its service."""
    assert written(refusal(name, base_url=base_url, top=top)) == {"top_logprobs": most}
    assert refusal(name, base_url=base_url, top=most) is None


def test_a_service_that_gives_none() -> None:
    """No model of it would do."""
    found = refusal("llama-3.3-70b", base_url=GROQ)

    assert str(found and found.sentence()).startswith(
        "llama-3.3-70b at Groq gives no logprobs: ask another model or server, or logprobs = false to do without"
    )


def test_a_gateway_leaves_out_what_a_model_does_not_take() -> None:
    """Only logprobs are looked at: an answer without them would be paid for."""
    assert refusal("openai/gpt-6-luna", base_url=OPENROUTER, max_tokens=64, reasoning={"effort": "none"}) is None
    assert refusal("openai/gpt-6-luna", base_url=OPENROUTER, stop=["."], reasoning={"enabled": False}) is None
    assert written(refusal("openai/gpt-6-astra", base_url=OPENROUTER, max_tokens=64))["name"] == "openai/gpt-6-luna"


def test_a_model_of_which_the_job_says_what_it_takes() -> None:
    """At a server of somebody's own, too."""
    known = TABLE.known("m", base_url="http://127.0.0.1:1/v1", takes=Takes(like="gpt-6-luna"))
    assert known is not None

    assert refusal_of(request("m", max_tokens=3), known, TABLE) is not None
    assert refusal_of(request("m", reasoning_effort="none", max_completion_tokens=3), known, TABLE) is None


PARAMS = [
    dict(chosen)
    for size in range(3)
    for chosen in itertools.combinations(
        [
            ("max_tokens", 64),
            ("max_completion_tokens", 64),
            ("max_completion_tokens", 1),
            ("max_output_tokens", 64),
            ("temperature", 0),
            ("top_p", 1),
            ("stop", ["."]),
            ("reasoning_effort", "none"),
            ("reasoning_effort", "low"),
            ("reasoning", {"effort": "none"}),
            ("reasoning", {"effort": "medium"}),
        ],
        size,
    )
]


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_as_the_families_refuse(name: str, endpoint: str) -> None:
    """What they answer is let through, and what they refuse is not; what is advised is answered."""
    for params, logprobs, top in itertools.product(PARAMS, (True, False), (5, 20)):
        if endpoint == "responses" and "stop" in params:
            continue  # no parameter of Responses, for any model
        if endpoint == "chat" and "max_output_tokens" in params:
            continue  # the server of the families does not look at it
        asked = request(name, endpoint, top=top, logprobs=logprobs, **params)
        answered = family_refusal(PATHS[endpoint], dict(asked.body)) is None
        found = refusal(name, endpoint, top=top, logprobs=logprobs, **params)

        assert (found is None) == answered, (params, logprobs, top, found)
        if found is None:
            continue
        write = dict(found.write)
        again = request(
            write.get("name", name),
            endpoint,
            top=write.get("top_logprobs", top),
            logprobs=logprobs,
            **write.get("params", params),
        )
        assert family_refusal(PATHS[endpoint], dict(again.body)) is None, found.sentence()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 100) | st.floats(0, 2) | st.sampled_from(["none", "low", "."]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["effort", "enabled"]), inner),
    max_leaves=3,
)
NAMES = sorted({name for params in PARAMS for name in params} | {"logprobs", "stream", "logit_bias"})


@given(
    st.dictionaries(st.sampled_from(NAMES), VALUES),
    st.sampled_from(sorted(FAMILIES)),
    st.sampled_from(sorted(PATHS)),
    st.sampled_from([None, OPENROUTER, GROQ]),
)
def test_any_parameters(params: dict[str, Any], name: str, endpoint: str, base_url: str | None) -> None:
    """Whatever a row holds is looked at, and parameters that are advised are taken."""
    called = f"openai/{name}" if base_url == OPENROUTER else name
    known = TABLE.known(called, base_url=base_url)
    assert known is not None

    def look(given: Mapping[str, Any]) -> Refusal | None:
        body = build_body(endpoint, model=called, prompt="x", params=given)
        return refusal_of(make_request(body, endpoint=endpoint, provider="p"), known, TABLE)

    found = look(params)
    if found is not None and "params" in found.write and "name" not in found.write and None not in params.values():
        again = look(found.write["params"])
        assert again is None or "params" not in again.write


@pytest.mark.parametrize("name", sorted(FAMILIES - NEVER_REASONS))
def test_the_lines_that_are_shown_for_a_model(name: str) -> None:
    """`logprobs models NAME` shows lines that are answered."""
    known = TABLE.known(name, base_url=None)
    assert known is not None
    lines = lines_for(known, "chat", TABLE)
    asked = request(lines.get("name", name), **lines["params"])

    assert family_refusal(PATHS["chat"], dict(asked.body)) is None
