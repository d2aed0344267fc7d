"""Laws of decoding: nothing is lost, and every way to decode gives the same tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from builders import answer_with
from decode import strategies
from decode.decoding import rebuild, same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logprob_store.decode.decoder import BATCH_BYTES, decode_answers

if TYPE_CHECKING:
    from logprob_store.decode.decoder import Decoded

pytestmark = pytest.mark.slow


def originals(contents: list[bytes]) -> dict[int, Any]:
    """The values to rebuild by completion_id, which is prompt_index * 10**8 + choice_index."""
    return {
        number * 10**8 + index: value
        for number, content in enumerate(contents)
        for index, value in strategies.parts_of(json.loads(content)).items()
    }


def decode_all(contents: list[bytes], source: str = "api", *, scanner_min_bytes: int = 0) -> Decoded:
    """Decode bodies of any size with the scanner, without asking for logprobs, so that an empty body is no failure."""
    return decode_answers(
        [answer_with(c, prompt_index=n, logprobs=False, source=source) for n, c in enumerate(contents)],
        scanner_min_bytes=scanner_min_bytes,
    )


law = settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
regular_body = strategies.spellings(strategies.chat_values(odd=False)) | strategies.responses_bodies(odd=False)
any_body = (
    regular_body
    | strategies.spellings(strategies.chat_values(odd=True))
    | strategies.spellings(strategies.legacy_values())
    | strategies.responses_bodies(odd=True)
    | strategies.vllm_bodies()
)


@law
@given(st.lists(any_body, min_size=1, max_size=4))
def test_what_was_on_the_wire_can_be_rebuilt_from_the_tables_alone(contents: list[bytes]) -> None:
    """In every shape, regular or not, the value rebuilt from the tables equals that of the body."""
    decoded = decode_all(contents)

    assert decoded.failures == []

    rebuilt = rebuild(decoded)
    expected = originals(contents)

    assert rebuilt.keys() == expected.keys()
    assert all(same(expected[key], rebuilt[key]) for key in expected)


@law
@given(strategies.spellings(strategies.legacy_values()))
def test_the_order_of_legacy_alternatives_survives(content: bytes) -> None:
    """The order of a dict of alternatives is their rank, so it is rebuilt too."""
    rebuilt = rebuild(decode_all([content]))

    for key, value in originals([content]).items():
        for one, other in zip(value.get("top_logprobs") or [], rebuilt[key].get("top_logprobs") or [], strict=True):
            assert one is None or list(one) == list(other)


@law
@given(strategies.echoed_bodies())
def test_both_values_of_an_echoed_prompt_are_rebuilt(echoed: tuple[dict[str, Any], int]) -> None:
    """They are rebuilt whether they agree or not, with the order of their keys."""
    body, length = echoed
    answer = answer_with(body, endpoint="completions", echo=True, prompt=[7] * length)
    decoded = decode_answers([answer], scanner_min_bytes=0)

    assert decoded.failures == []

    [choice] = body["choices"]
    expected = {key: choice[key] for key in ("logprobs", "prompt_logprobs")}

    assert repr(sort_but_ranked(rebuild(decoded)[0])) == repr(sort_but_ranked(expected))


def sort_but_ranked(value: dict[str, Any]) -> Any:
    """The two values with sorted keys wherever the order has no meaning."""
    legacy = dict(sorted(value["logprobs"].items()))
    prompt = [entry and {key: sorted(one.items()) for key, one in entry.items()} for entry in value["prompt_logprobs"]]
    return legacy, prompt


@law
@given(strategies.recorded_streams())
def test_a_stream_gives_the_value_of_the_whole_body(stream: tuple[bytes, dict[str, Any]]) -> None:
    """As events, a list or lines, cut anywhere, the pieces give the same value."""
    content, whole = stream
    decoded = decode_all([content])

    assert decoded.failures == []

    expected = strategies.parts_of(whole)
    rebuilt = rebuild(decoded)

    assert rebuilt.keys() == expected.keys()
    assert all(same(expected[key], rebuilt[key]) for key in expected)
    assert_same_tables(decoded, decode_all([json.dumps(whole).encode()]))


def assert_same_tables(one: Decoded, other: Decoded) -> None:
    """Check that all three tables are equal, value by value; NaN equals NaN."""
    for name in ("completions", "tokens", "alternatives"):
        left, right = getattr(one, name), getattr(other, name)

        assert left.schema == right.schema
        assert repr(left.to_pylist()) == repr(right.to_pylist())


@law
@given(st.lists(regular_body | any_body, min_size=1, max_size=5))
def test_the_fast_ways_and_the_exact_way_give_the_same_tables(contents: list[bytes]) -> None:
    """Logprobs cut out of a body, scanned in place, or read token by token give the same tables."""
    never = 1 << 60
    cut, exact = decode_all(contents), decode_all(contents, scanner_min_bytes=never)
    scanned, imported = decode_all(contents, "import"), decode_all(contents, "import", scanner_min_bytes=never)

    assert_same_tables(cut, exact)
    assert_same_tables(scanned, imported)


@law
@given(st.lists(any_body | st.binary(max_size=20), min_size=1, max_size=6), st.randoms(), st.booleans())
def test_neither_order_nor_batching_changes_a_row(contents: list[bytes], random: Any, parts: bool) -> None:  # noqa: FBT001
    """One by one, shuffled, or in parts on several threads, bodies give the same rows."""
    answers = [answer_with(c, prompt_index=n, logprobs=False) for n, c in enumerate(contents)]
    alone = [decode_answers([answer], scanner_min_bytes=0) for answer in answers]
    shuffled = list(range(len(answers)))
    random.shuffle(shuffled)
    batch_bytes = 100 if parts else BATCH_BYTES
    together = decode_answers([answers[n] for n in shuffled], batch_bytes=batch_bytes, scanner_min_bytes=0)

    for name in ("completions", "tokens", "alternatives"):
        rows = [row for one in alone for row in getattr(one, name).to_pylist()]

        assert repr(getattr(together, name).to_pylist()) == repr(rows)

    failed = {n for n, one in enumerate(alone) if one.failures}

    assert [index for index, _ in together.failures] == sorted(shuffled.index(n) for n in failed)


@law
@given(st.lists(st.floats(max_value=0, allow_nan=False, allow_infinity=False), min_size=8, max_size=8))
def test_floats_keep_every_bit_on_the_fast_way(values: list[float]) -> None:
    """The scanner rounds decimal numbers as Python does, to the last bit."""
    body = {"choices": [{"index": 0, "logprobs": {"content": [{"token": "a", "logprob": value} for value in values]}}]}
    decoded = decode_answers([answer_with(body)], scanner_min_bytes=0)

    assert decoded.tokens.column("logprob_wire").null_count == sum(value > -9999 for value in values)
    assert [e["logprob"].hex() for e in rebuild(decoded)[0]["content"]] == [value.hex() for value in values]
