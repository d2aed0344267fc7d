"""The job file: its errors, its defaults, and the settings that identify a run."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from builders import write_job, write_prompts
from pydantic import BaseModel, ValidationError

from logprob_store.errors import JobError, PromptsError, TemplateError
from logprob_store.job import Job, _numbers_of, load_job, override
from logprob_store.job_problems import FROM_ENVIRONMENT
from logprob_store.run.plan import plan_job
from logprob_store.usage import Usage, tier_of

if TYPE_CHECKING:
    from collections.abc import Callable

REPO = Path(__file__).parents[1]
JOB_FILES = sorted([*REPO.glob("jobs/**/*.toml"), *REPO.glob("fixtures/*.toml")])

SMALL = {
    "name": '"tried"',
    "prompts.path": '"p.parquet"',
    "prompts.prompt": '"text"',
    "model.name": '"m"',
    "store.path": '"out"',
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a job file: the smallest one, with some settings changed, added (as TOML) or left out (None)."""

    def write(changes: dict[str, str | None] | None = None) -> Path:
        settings = {name: value for name, value in {**SMALL, **(changes or {})}.items() if value is not None}
        path = tmp_path / "job.toml"
        path.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()), encoding="utf-8")
        return path

    return write


def _problems(path: Path) -> list[str]:
    with pytest.raises(JobError) as caught:
        load_job(path)
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize("path", JOB_FILES, ids=lambda path: str(path.relative_to(REPO)))
def test_every_job_file_of_the_repository_parses(path: Path) -> None:
    """Each committed job file parses, and the prompts beside it or in fixtures/ exist."""
    job = load_job(path)

    assert job.name
    if "fixtures/" in job.prompts.path or path.parent.name == "fixtures":
        assert job.resolve(job.prompts.path).exists()


def test_there_are_job_files() -> None:
    """The job files of the demos are among those found."""
    assert {"demo.toml", "local.toml"} <= {path.name for path in JOB_FILES}


def test_the_defaults(write: Callable[..., Path]) -> None:
    """The smallest job asks chat at OpenAI for five alternatives, once, and keeps the answers."""
    job = load_job(write())

    assert (job.model.endpoint, job.model.top_logprobs, job.model.samples) == ("chat", 5, 1)
    assert job.model.identity == "https://api.openai.com:443/v1"
    assert (job.cache.mode, job.transport.kind, job.limits.concurrency) == ("reuse", "live", 64)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model.top_logprob": "1"}, "model.top_logprob: unknown key; did you mean top_logprobs?"),
        ({"promts.path": '"x"'}, "promts: unknown key; did you mean prompts?"),
        (
            {"limits.xyz": "1"},
            (
                "limits.xyz: unknown key; known here: concurrency, requests_per_minute, tokens_per_minute, attempts, "
                "timeout_s, retry_for_s, max_answer_bytes, max_cost_usd, max_requests, max_tokens, "
                "job_max_cost_usd, job_max_requests, job_max_tokens, cache_max_cost_usd, cache_max_requests, "
                "cache_max_tokens, harmless_params"
            ),
        ),
        ({"base": '"/"'}, "base: unknown key"),
        ({"model.name": None, "model.samples": "1"}, "model.name: is missing"),
        ({"model.base_url": '"http://h/v1/chat/completions"'}, (
            "model: base_url holds the endpoint's own path, which is added to it: write http://h/v1"
        )),
        ({"model.params.messages": "[]"}, "model: params.messages cannot be set here: the prompts fill it"),
        ({"prompts.prompt": None}, "prompts: give exactly one of prompt, messages and template; found none"),
        ({"prompts.template": '"x"'}, ("prompts: give exactly one of prompt, messages and template; "
                                      "found prompt and template")),
        ({"model.takes": "{ logprob = 'no' }"}, "model.takes.logprob: unknown key; did you mean logprobs?"),
        ({"model.takes": '"anythin"'}, ('model.takes: is "anything", or a table such as { like = "gpt-6-luna" } or '
                                        '{ logprobs = "yes" }')),
        ({"model.takes.reasons": '"often"'}, ("model.takes.reasons: has to be one of 'never', 'when asked', "
                                              "'by default' or 'always', not \"often\"")),
        ({"transport.kind": '"replay"'}, ('transport.kind = "replay" needs transport.fixtures, a file or folder of '
                                         "recordings")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_an_error_names_the_place(write: Callable[..., Path], changes: dict[str, str | None], expected: str) -> None:
    """It says what is wrong there; an unknown key comes with the nearest known one."""
    assert _problems(write(changes)) == [expected]


def test_all_problems_at_once(write: Callable[..., Path]) -> None:
    """All errors of a job file are listed at once."""
    changes = {
        "model.topp": "1",
        "limits.attempts": "0",
        "cache.mode": '"always"',
        "store.path": None,
        "store.part_bytes": "1",
    }

    problems = _problems(write(changes))

    assert [problem.split(":")[0] for problem in problems] == [
        "model.topp",
        "limits.attempts",
        "cache.mode",
        "store.path",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", '"a/b"'), ("name", '""'), ("limits.concurrency", "0"), ("limits.requests_per_minute", "0"),
        ("limits.timeout_s", "-1"), ("model.samples", "0"), ("model.top_logprobs", "-1"), ("model.endpoint", '"embed"'),
        ("model.base_url", '"ftp://host"'), ("model.base_url", '"localhost:8080"'), ("prompts.path", '""'),
    ],
)  # fmt: skip
def test_values_out_of_range(write: Callable[..., Path], name: str, value: str) -> None:
    """A value out of range or of a wrong form is an error that names the setting."""
    (problem,) = _problems(write({name: value}))

    assert problem.startswith(f"{name}: ")


@pytest.mark.parametrize("ceiling", ["max_tokens", "job_max_tokens", "cache_max_tokens"])
@pytest.mark.parametrize(
    ("params", "said"),
    [
        ('{ max_tokens = 5, n = "4" }', "model.params: the parameter n is '4'"),
        ("{ max_tokens = 5, web_search_options = {} }", "model.params: the parameter web_search_options"),
        ("{ max_tokens = 0 }", "limits.max_cost_usd and limits.max_tokens need model.params.max_completion_tokens"),
        ("{ }", "limits.max_cost_usd and limits.max_tokens need model.params.max_completion_tokens"),
    ],
)
def test_a_ceiling_needs_bounded_params(write: Callable[..., Path], ceiling: str, params: str, said: str) -> None:
    """What nothing bounds is refused when the job file is read, under a ceiling of whatever kind."""
    (problem,) = _problems(write({f"limits.{ceiling}": "100", "model.params": params}))

    assert problem.startswith(said)


def test_a_vouched_parameter_passes_a_ceiling(write: Callable[..., Path]) -> None:
    """The user names it in limits.harmless_params."""
    changes = {"limits.max_tokens": "100", "model.params": "{ max_tokens = 5, new = 1 }"}

    assert load_job(write({**changes, "limits.harmless_params": '["new"]'})).limits.harmless_params == ("new",)


@pytest.mark.parametrize("ceiling", ["max_cost_usd", "job_max_cost_usd", "cache_max_cost_usd"])
def test_a_ceiling_of_dollars_needs_prices(write: Callable[..., Path], ceiling: str) -> None:
    """The error names the ceiling."""
    (problem,) = _problems(write({f"limits.{ceiling}": "1.0", "model.params": "{ max_tokens = 5 }"}))

    assert problem.startswith(f"limits.{ceiling} needs prices.input_usd_per_million_tokens")
    assert problem.endswith("no price of m is known without them")


def test_a_model_whose_price_is_listed_needs_no_prices(write: Callable[..., Path]) -> None:
    """At OpenAI alone: the same name at another address may cost anything."""
    changes = {
        "limits.max_cost_usd": "1.0",
        "model.params": "{ max_completion_tokens = 5 }",
        "model.name": '"gpt-6-luna"',
    }

    job = load_job(write(changes))

    assert job.token_prices is not None
    assert (job.token_prices.input, job.token_prices.cache_write) == (0.1, 0.125)
    assert load_job(write({**changes, "model.base_url": '"https://api.openai.com/v1/"'})).token_prices is not None
    (problem,) = _problems(write({**changes, "model.base_url": '"http://127.0.0.1:1/v1"'}))
    assert problem.startswith("limits.max_cost_usd needs prices.input_usd_per_million_tokens")


def test_decisions_cost_their_input_and_nothing_else(tmp_path: Path) -> None:
    """100 tokens at $0.10 a million, whatever part of them is said to be cached or written, and whatever is counted.

    https://apidog.com/blog/openai-decisions-api/ of 2026-10-10: no charge for output, nor for the cache.
    """
    path = write_job(tmp_path, model={"name": "gpt-6-luna", "endpoint": "decisions", "base_url": None})
    question = '[[questions]]\nname = "a"\ntype = "predicate"\ninstructions = "x"\n'
    path.write_text(path.read_text(encoding="utf-8") + question, encoding="utf-8")

    prices = load_job(path).token_prices

    assert prices is not None
    assert prices.usd(Usage(100, 60, 7, 40)) == pytest.approx(10e-6)
    assert prices.usd(prices.worst(100, 0, [""])) == pytest.approx(10e-6)
    assert prices.usd(Usage(100, 60, 7, tier="priority")) == pytest.approx(20e-6)


@pytest.mark.parametrize(
    ("base_url", "said"),
    [
        (None, "no price of gpt-99 is known: set [prices]"),
        ("https://eu.api.openai.com/v1", "no price of gpt-99 is known at https://eu.api.openai.com/v1: set [prices]"),
        ("http://127.0.0.1:8000/v1", None),
    ],
)
def test_that_no_price_is_known_is_said(tmp_path: Path, base_url: str | None, said: str | None) -> None:
    """Where OpenAI is asked, which bills; a server of somebody's own may not."""
    assert load_job(write_job(tmp_path, base_url, model={"name": "gpt-99"})).about_prices == said


def test_a_replay_has_the_prices_of_its_job_alone(write: Callable[..., Path]) -> None:
    """It pays nothing; a ceiling of the job is no obstacle to it."""
    changes = {
        "limits.max_cost_usd": "1.0",
        "model.params": "{ max_completion_tokens = 5 }",
        "model.name": '"gpt-6-luna"',
    }

    job = load_job(write({**changes, "transport.kind": '"replay"', "transport.fixtures": '"f"'}))

    assert (job.token_prices, job.about_prices) == (None, None)


OWN = {"prices.input_usd_per_million_tokens": "2.0", "prices.output_usd_per_million_tokens": "8.0"}


def test_own_prices_by_kind_tier_and_length(write: Callable[..., Path]) -> None:
    """A tier is a factor on all prices, or has prices of its own."""
    job = load_job(
        write(
            {
                **OWN,
                "prices.cache_write_usd_per_million_tokens": "2.5",
                "prices.long_context": "{ above_tokens = 100, input_factor = 2.0, output_factor = 1.5 }",
                "prices.tiers.flex": "0.5",
                "prices.tiers.fast": "{ input_usd_per_million_tokens = 3.0, output_usd_per_million_tokens = 9.0 }",
            }
        )
    )
    prices = job.token_prices

    assert prices is not None
    assert prices.usd(Usage(10, 0, 0, 10, tier="flex")) == pytest.approx(12.5e-6)
    assert prices.usd(Usage(10, 0, 10, tier="priority")) == pytest.approx(120e-6)
    assert prices.usd(Usage(200, 0, 10, is_long=prices.is_long(200))) == pytest.approx(920e-6)  # 200 * 4 + 10 * 12


@pytest.mark.parametrize("endpoint", ["completions", "decisions"])
def test_endpoints_without_service_tiers(tmp_path: Path, endpoint: str) -> None:
    """It is said before the server refuses the parameter."""
    path = write_job(tmp_path, model={"endpoint": endpoint, "base_url": "http://h/v1"}, transport={"tier": "flex"})
    question = '[[questions]]\nname = "a"\ntype = "predicate"\ninstructions = "x"\n'
    path.write_text(path.read_text(encoding="utf-8") + question * (endpoint == "decisions"), encoding="utf-8")

    with pytest.raises(JobError, match="others have no service tiers"):
        load_job(path)


def test_a_price_for_all_tiers_that_are_not_known(write: Callable[..., Path]) -> None:
    """So that the key which the message about such a tier names can be written; `standard_only` is the standard one."""
    prices = load_job(write({**OWN, "prices.tiers.unknown": "3.0"})).token_prices

    assert prices is not None
    assert prices.knows(tier_of("warp") or "")
    assert prices.usd(Usage(10, 0, 10, tier=tier_of("warp") or "")) == pytest.approx(300e-6)
    assert tier_of("standard_only") == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"prices.tiers.standard_only": "2.0"},
            "prices: tiers.standard_only: is no tier with a price of its own; known are flex, batch",
        ),
        (
            {"prices.tiers.turbo": "2.0"},
            "prices: tiers.turbo: is no tier with a price of its own; known are flex, batch",
        ),
        ({"prices.tiers.flex": '"x"'}, "prices.tiers.flex: has to be a"),
        ({"prices.tiers.flex": "-1"}, "prices.tiers.flex.factor: has to be at least 0"),
        (
            {"prices.tiers.flex": "{ input_usd_per_million_tokens = 1.0 }"},
            "prices.tiers.flex: has to be a factor, or a s",
        ),
        (
            {"prices.tiers.flex": "{ factor = 1.0, input_usd_per_million_tokens = 1.0 }"},
            "prices.tiers.flex: give a fac",
        ),
        ({"prices.tiers.default": "2.0"}, "prices: tiers.default: is no tier with a price of its own"),
        ({"prices.tiers.fast": "2.0", "prices.tiers.priority": "2.0"}, "prices: tiers: fast and priority are one tier"),
        (
            {"transport.tier": '"priority"', "limits.max_cost_usd": "1.0", "model.params": "{ max_tokens = 5 }"},
            "limits.max_cost_usd needs prices.tiers.priority",
        ),
    ],
)
def test_prices_of_tiers_that_cannot_be(write: Callable[..., Path], changes: dict[str, str], said: str) -> None:
    """A tier that nobody knows is a slip of the pen, and one that is asked for needs a price under a ceiling."""
    (problem,) = _problems(write({**OWN, **changes}))

    assert problem.startswith(said)


@pytest.mark.parametrize("price", ["cache_write_usd_per_million_tokens = 1.0", "tiers.flex = 0.5"])
def test_prices_are_whole(write: Callable[..., Path], price: str) -> None:
    """A price of a part alone is none."""
    name, _, value = price.partition(" = ")

    assert _problems(write({f"prices.{name}": value})) == [
        "prices: input and output_usd_per_million_tokens: is missing"
    ]


def test_flex_has_time(write: Callable[..., Path]) -> None:
    """Its calls may take 15 minutes, and are tried again for an hour, unless the job says otherwise."""
    usual, flex = load_job(write()), load_job(write({"transport.tier": '"flex"'}))
    own = load_job(write({"transport.tier": '"flex"', "limits.timeout_s": "600.0"}))

    assert (usual.timeout_s, usual.retry_for_s) == (600, 600)
    assert (flex.timeout_s, flex.retry_for_s) == (900, 3600)
    assert (own.timeout_s, own.retry_for_s) == (600, 3600)
    assert override(flex, store=Path("elsewhere")).timeout_s == 900


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"transport.flex_fallback_s": "5"}, 'transport: flex_fallback_s needs tier = "flex"'),
        ({"transport.tier": '"flex"', "transport.flex_fallback_s": "3600"}, "transport.flex_fallback_s has to be less"),
        (
            {"transport.tier": '"flex"', "model.params": '{ service_tier = "flex" }'},
            "transport.tier and model.params.serv",
        ),
        ({"transport.tier": '"flex"', "model.endpoint": '"completions"'}, "transport.tier needs model.endpoint"),
        ({"transport.tier": '"cheap"'}, "transport.tier: has to be one of 'default', 'flex' or 'priority'"),
    ],
)
def test_tiers_that_cannot_be_sent(write: Callable[..., Path], changes: dict[str, str], said: str) -> None:
    """Each error says what stands against it."""
    (problem,) = _problems(write(changes))

    assert problem.startswith(said)


def test_a_tier_is_no_part_of_what_is_asked(write: Callable[..., Path]) -> None:
    """A run goes on by another tier, and an answer by any is the answer to the question."""
    assert load_job(write({"transport.tier": '"flex"'})).identity() == load_job(write()).identity()


A_TABLE = '{ value = "one" }'


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ("5", '.choices: has to be a text in quotes, or a list, as ["one", "two"], not 5'),
        (
            '["a", 1]',
            f".choices[1]: has to be a text in quotes, or true or false, without quotes, or a table, as {A_TABLE}",
        ),
        ('["a", { valu = "b" }]', ".choices[1].value: is missing"),
        (
            '["a", { value = 3 }]',
            ".choices[1].value: has to be a text in quotes, or true or false, without quotes, not 3",
        ),
    ],
)
def test_an_option_that_is_none(tmp_path: Path, choices: str, said: str) -> None:
    """In words, and once for each place, not for each kind of value that could stand there."""
    path = write_job(tmp_path, "http://h/v1", model={"endpoint": "decisions"})
    question = f'[[questions]]\nname = "a"\ntype = "choice"\ninstructions = "x"\nchoices = {choices}\n'
    path.write_text(path.read_text(encoding="utf-8") + question, encoding="utf-8")

    with pytest.raises(JobError) as caught:
        load_job(path)

    lines = [line for line in str(caught.value).splitlines() if "choices" in line]
    assert f"questions[0]{said}" in lines[0]
    assert "union" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({**OWN, "prices.input_usd_per_million_tokens": "true"}, "million_tokens: has to be a number, not true"),
        ({"limits.max_requests": "true"}, "limits.max_requests: has to be a number, not true"),
        ({"limits.timeout_s": "true"}, "limits.timeout_s: has to be a number of seconds, not true"),
        ({**OWN, "prices.tiers.flex": "true"}, "prices.tiers.flex: has to be a factor, or a section with"),
    ],
)
def test_true_is_no_number(write: Callable[..., Path], changes: dict[str, str], said: str) -> None:
    """It would be $1, one call and one second."""
    with pytest.raises(JobError, match=re.escape(said)):
        load_job(write(changes))


def test_no_number_of_a_job_is_endless() -> None:
    """In no section: what would overflow later is refused first."""
    fields = [
        (section.annotation, name)
        for section in Job.model_fields.values()
        if isinstance(section.annotation, type) and issubclass(section.annotation, BaseModel)
        for name in _numbers_of(section.annotation)
    ]
    assert len(fields) > 20
    for section, name in fields:
        for value in (math.inf, math.nan):
            with pytest.raises(ValidationError, match=name):
                section.model_validate({name: value})


def test_a_time_of_day_may_be_one_of_toml(write: Callable[..., Path]) -> None:
    """With or without quotes."""
    job = load_job(write({"batch.deadline": "06:00:00", "batch.fallback": '"live"'}))

    assert job.batch.deadline == "06:00"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"\xff", "is not UTF-8 text"),
        (b"name = ", "is not valid TOML"),
        (b"a = 1\na = 2", "TOML"),
    ],
)
def test_a_file_that_is_no_job(tmp_path: Path, content: bytes | None, said: str) -> None:
    """The error for a missing, binary or malformed file names the file."""
    path = tmp_path / "job.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(JobError, match=said) as caught:
        load_job(path)

    assert str(path) in str(caught.value)


def test_paths_are_relative_to_the_file(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths are relative to the job file, `~` is the home folder, and an absolute path stays."""
    path = write()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", "/home/me")

    job = load_job(Path("..") / path.name)

    assert job.resolve("out") == tmp_path / "out"
    assert job.resolve("../x/./y") == tmp_path.parent / "x" / "y"
    assert job.resolve("~/out") == Path("/home/me/out")
    assert job.resolve("/abs") == Path("/abs")


@pytest.mark.parametrize(
    "changes",
    [
        {"limits.concurrency": "1", "limits.attempts": "2", "limits.timeout_s": "1"},
        {"cache.mode": '"off"'},
        {"transport.kind": '"replay"', "transport.fixtures": '"f.jsonl"'},
        {"store.path": '"elsewhere"'},
        {"prompts.path": '"moved/p.parquet"'},
        {"model.base_url": '"https://api.openai.com:443/v1/"'},
        {"model.api_key_env": '"OTHER_KEY"'},
        {"name": '"renamed"'},
        {"model.takes": '"anything"'},
        {"model.table": '"mine.toml"'},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_does_not_identify_a_run(write: Callable[..., Path], changes: dict[str, str]) -> None:
    """Limits, cache, transport and paths are not part of a run's identity."""
    before = load_job(write()).identity()

    assert load_job(write(changes)).identity() == before


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"model.name": '"n"'}, "model.name"),
        ({"model.params.temperature": "1"}, "model.params.temperature"),
        ({"model.top_logprobs": "3"}, "model.top_logprobs"),
        ({"model.samples": "2"}, "model.samples"),
        ({"model.base_url": '"http://127.0.0.1:1/v1"'}, "model.provider"),
        ({"prompts.system": '"Be brief."'}, "prompts.system"),
        ({"prompts.keep": '["a"]'}, "prompts.keep"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_identifies_a_run(write: Callable[..., Path], changes: dict[str, str], name: str) -> None:
    """Each setting that shapes rows is part of the identity, under its name in the file."""
    before, after = load_job(write()).identity(), load_job(write(changes)).identity()

    assert [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)] == [name]


def test_a_provider_stands_for_any_url(write: Callable[..., Path]) -> None:
    """`provider` replaces the base URL in the identity."""
    one, other = (
        load_job(write({"model.provider": '"llama.cpp/x"', "model.base_url": f'"http://127.0.0.1:{port}/v1"'}))
        for port in (1, 2)
    )

    assert one.model.identity == other.model.identity == "llama.cpp/x"
    assert one.identity() == other.identity()


def test_credentials_in_a_base_url_stay_out(write: Callable[..., Path]) -> None:
    """The identity has no password."""
    job = load_job(write({"model.base_url": '"https://me:secret@host/v1?token=secret"'}))

    assert "secret" not in str(job.identity())


def test_overriding_from_the_command_line(write: Callable[..., Path], tmp_path: Path, monkeypatch: Any) -> None:
    """Paths given to `override` are relative to the working directory; an invalid result is a JobError."""
    monkeypatch.chdir(tmp_path)
    job = load_job(write())

    changed = override(job, store=Path("s"), transport="replay", fixtures=Path("f"))

    assert isinstance(changed, Job)
    assert (changed.store.path, changed.transport.fixtures) == (str(tmp_path / "s"), str(tmp_path / "f"))
    assert changed.identity() == job.identity()
    with pytest.raises(JobError, match=r"transport\.fixtures"):
        override(job, transport="replay")
    with pytest.raises(JobError, match=r"transport\.kind"):
        override(job, transport="telepathy")


def test_a_byte_order_mark_is_passed_over(write: Callable[..., Path]) -> None:
    """Windows editors begin UTF-8 files with one."""
    path = write()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))

    assert load_job(path).name == "tried"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_named(write: Callable[..., Path], encoding: str) -> None:
    """PowerShell writes it by default."""
    path = write()
    path.write_bytes(("\ufeff" * (encoding != "utf-16") + path.read_text(encoding="utf-8")).encode(encoding))

    assert _problems(path) == ["is UTF-16 text: save it as UTF-8"]


@pytest.mark.parametrize("value", ["1" * 5000, "[" * 2000 + "]" * 2000], ids=["number", "lists"])
def test_toml_that_python_cannot_read_is_a_clear_error(write: Callable[..., Path], value: str) -> None:
    """A number of 5,000 digits, and lists within lists."""
    (problem,) = _problems(write({"model.params.x": value}))

    assert problem.startswith("is not valid TOML: ")


def test_an_unknown_home_folder_is_a_clear_error(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run as a user without a name or a home."""
    job = load_job(write({"store.path": '"~/out"'}))
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}[0])

    with pytest.raises(JobError, match="~/out: the home folder is not known, HOME is not set: write the whole path"):
        job.resolve(job.store.path)


@pytest.mark.parametrize(
    ("base_url", "said"),
    [
        ("http://127.0.0.1:99999/v1", "has a port that is no number from 1 to 65535"),
        ("http://127.0.0.1:0/v1", "has a port that is no number from 1 to 65535"),
        ("http://127.0.0.1:abc/v1", "has a port that is no number from 1 to 65535"),
        ("http://127.0.0.1:\u0663/v1", "has a port that is no number from 1 to 65535"),
        ("http://127.0.0.1:/v1", "has a port that is no number from 1 to 65535"),
        ("http://[::1]x:9/v1", "has a port that is no number from 1 to 65535"),
        ("http://[::1/v1", "has brackets that hold no IPv6 address"),
        ("http://[v1.x]:9/v1", "has brackets that hold no IPv6 address"),
        ("http://:80/v1", "has no host"),
        (f"http://{'a' * 64}/v1", f"has a host that no name server knows: '{'a' * 60}...'"),
        ("http://a..b/v1", "has a host that no name server knows: 'a..b'"),
        ("http://a b/v1", "has a host that no name server knows: 'a b'"),
        ("http://999.1.1.1/v1", "has a host that no name server knows: '999.1.1.1'"),
    ],
)
def test_a_base_url_that_cannot_be_reached(write: Callable[..., Path], base_url: str, said: str) -> None:
    """It is an error of the job file: each was a traceback in the middle of the first call."""
    assert _problems(write({"model.base_url": f'"{base_url}"'})) == [f"model: base_url {said}"]


@pytest.mark.parametrize(
    "base_url",
    ["http://[::1]:8080/v1", "http://[fe80::1%25lo]/v1", "http://a_b.example./v1", "http://ü.example/v1", "http://gpu"],
)
def test_a_base_url_that_may_be_reached(write: Callable[..., Path], base_url: str) -> None:
    """Names that only the local network knows, and addresses of both kinds."""
    assert load_job(write({"model.base_url": f'"{base_url}"'})).model.base_url == base_url


def test_a_folder_whose_name_is_no_utf_8(tmp_path: Path) -> None:
    """Parquet files can neither be read nor written there; the error shows the name."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()

    with pytest.raises(JobError, match=r"caf\\xe9 is no UTF-8"):
        load_job(write_job(folder, "http://localhost:1/v1"))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model.top_logprobs": '"five"'}, 'model.top_logprobs: has to be a whole number, not "five"'),
        ({"limits.concurrency": "2.5"}, "limits.concurrency: has to be a whole number, not 2.5"),
        ({"limits.timeout_s": '"10m"'}, 'limits.timeout_s: has to be a number of seconds, not "10m"'),
        ({"limits.concurrency": "0"}, "limits.concurrency: has to be at least 1, not 0"),
        ({"prompts.keep": '"country"'}, 'prompts.keep: has to be a list, as ["one", "two"], not "country"'),
        ({"prompts.keep": "[1]"}, "prompts.keep[0]: has to be a text in quotes, not 1"),
        ({"prompts.id": '["a"]'}, 'prompts.id: has to be a text in quotes, not ["a"]'),
        (
            {"model.params": '["temperature"]'},
            'model.params: has to be a table, as { name = value }, not ["temperature"]',
        ),
        ({"model.logprobs": '"maybe"'}, 'model.logprobs: has to be true or false, without quotes, not "maybe"'),
        ({"model.name": '""'}, "model.name: is empty"),
        (
            {"name": '"my job"'},
            "name: has to be of letters without accents, digits, '.', '_' and '-' alone, at most 64, not \"my job\"",
        ),
        (
            {"store.file_mode": '"rw"'},
            'store.file_mode: has to be octal digits in quotes, as "0640", of which the first is 6 or 7, not "rw"',
        ),
        ({"cache.mode": '"on"'}, "cache.mode: has to be one of 'reuse', 'refresh' or 'off', not \"on\""),
        ({"model.concurrency": "3"}, "model.concurrency: unknown key; it is a key of [limits]"),
        (
            {"model.headers": "{ X-A = 3 }"},
            f"model.headers.X-A: {FROM_ENVIRONMENT}",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_problem_is_said_in_the_words_of_a_job_file(
    write: Callable[..., Path], changes: dict[str, str], problem: str
) -> None:
    """What the key has to be and what it is, without pydantic's tuples, dictionaries and regular expressions."""
    assert _problems(write(changes)) == [problem]


def test_a_parameter_beside_params_says_where_it_belongs(write: Callable[..., Path]) -> None:
    """The commonest slip: parameters of the request stand in model.params."""
    (problem,) = _problems(write({"model.temperature": "0"}))

    assert problem.startswith(
        "model.temperature: unknown key; a parameter of the request belongs into model.params, as params = { temp"
    )


@pytest.mark.parametrize("key", ["api_key", "api_key_env", "base_url"])
def test_what_may_be_secret_is_not_shown(write: Callable[..., Path], key: str) -> None:
    """A key written in the wrong place, or in a URL without its scheme, is not repeated on the screen or in a log."""
    (problem,) = _problems(write({f"model.{key}": '"sk-secret:x@h"'}))

    assert "secret" not in problem


def test_a_table_that_stands_twice_is_named_as_it_is_written(tmp_path: Path) -> None:
    """Not as the tuple that Python's TOML reader has of it."""
    path = tmp_path / "job.toml"
    path.write_text("[model.params]\n[model.params]\n", encoding="utf-8")

    (problem,) = _problems(path)

    assert "model.params twice" in problem


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"prompts.path": '"no.parquet"'}, "prompts.path: nothing matches 'no.parquet'"),
        ({"prompts.path": '"empty"'}, "prompts.path: the folder .* holds no Parquet, CSV or JSON Lines file"),
        ({"prompts.template": '"{text.x}"'}, "prompts.template: the template is wrong at position 5"),
        (
            {"prompts.template": '"{text}"', "prompts.system": '"{"'},
            "prompts.system: the template is wrong at position 0",
        ),
        ({"prompts.template": '"{{text}}"'}, "prompts.template names no column, so that all prompts would be one"),
        ({"prompts.template": '"{txt}"'}, r".*p\.parquet has no column 'txt' \(prompts\.template\)"),
        (
            {"prompts.path": '"x.xlsx"'},
            r".*x\.xlsx cannot be read as Parquet: it is a spreadsheet: save the sheet .* CSV",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value.values())),
)
def test_what_is_wrong_with_the_prompts_names_the_job_file(
    write: Callable[..., Path], tmp_path: Path, changes: dict[str, str], problem: str
) -> None:
    """Of several jobs that a scheduler starts, which one it is."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.xlsx").write_bytes(b"PK\x03\x04")
    write_prompts(tmp_path, {"text": ["x"]}, "p.parquet")
    path = write({"prompts.path": '"p.parquet"', "prompts.prompt": None, "prompts.template": '"{text}"', **changes})

    with pytest.raises((PromptsError, TemplateError), match=rf"^{re.escape(str(path))}: {problem}"):
        plan_job(load_job(path))


def test_a_path_is_shown_without_its_detours(write: Callable[..., Path], tmp_path: Path) -> None:
    """`../x` of a job in a folder is the x beside the folder."""
    path = write({"prompts.path": '"../no/p.parquet"'})

    with pytest.raises(PromptsError, match=re.escape(f"(looked for {tmp_path.parent / 'no' / 'p.parquet'})")):
        plan_job(load_job(path))


@pytest.mark.parametrize(("changes", "seconds"), [({}, 60), ({"limits.retry_for_s": "600.0"}, 600)])
def test_a_server_that_was_never_reached_is_waited_for_a_minute(
    write: Callable[..., Path], changes: dict[str, str], seconds: int
) -> None:
    """Unless the job says how long it tries, also where the command line replaces something else."""
    job = load_job(write(changes))

    assert job.limits.reach_for_s == override(job, base_url="http://h/v1").limits.reach_for_s == seconds
