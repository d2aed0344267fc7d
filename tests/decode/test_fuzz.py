"""Damaged bodies of every format become rows that can be rebuilt, or a failure; decoding never crashes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builders import answer_with
from decode import seeds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logprob_store.decode.decoder import SCANNER_MIN_BYTES, decode_answers

law = settings(
    deadline=2000, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(params=[0, SCANNER_MIN_BYTES], ids=["scanned", "token by token"])
def scanner_min_bytes(request: pytest.FixtureRequest) -> int:
    """With 0, small bodies are scanned too; with the default they are read token by token."""
    return int(request.param)


def picker(data: st.DataObject) -> Any:
    """A function that lets Hypothesis choose a number below its argument."""
    return lambda count: data.draw(st.integers(0, count - 1))


def _objects_in(value: Any) -> list[dict[str, Any]]:
    """All objects of a JSON value, however deep."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [*([value] if isinstance(value, dict) else []), *(found for one in inner for found in _objects_in(one))]


@pytest.mark.parametrize("digits", [21, 5000])
@pytest.mark.parametrize("name", seeds.BODIES)
def test_a_number_that_is_too_long_costs_no_answer(name: str, digits: int) -> None:
    """An integer beyond 64 bits, or beyond what Python reads, under any key of its own, leaves all rows as they are."""
    expected = decode_answers([answer_with(seeds.BODIES[name])])
    for place in range(len(_objects_in(seeds.BODIES[name]))):
        body = json.loads(json.dumps(seeds.BODIES[name]))
        _objects_in(body)[place]["odd"] = "@"
        content = json.dumps(body).replace('"@"', "9" * digits).encode()
        decoded = decode_answers([answer_with(content)])

        assert decoded.failures == []
        assert decoded.tokens.num_rows == expected.tokens.num_rows


@pytest.mark.parametrize("name", seeds.contents())
@pytest.mark.parametrize("asked", [True, False])
def test_undamaged_bodies_are_decoded(scanner_min_bytes: int, name: str, asked: bool) -> None:  # noqa: FBT001
    """The bodies that the other tests damage are valid."""
    content = seeds.contents()[name]
    decoded = decode_answers([answer_with(content, logprobs=asked)], scanner_min_bytes=scanner_min_bytes)

    assert decoded.failures == []
    assert len(decoded.tokens) + len(decoded.decisions) > 0

    seeds.check(content, asked=asked, scanner_min_bytes=scanner_min_bytes)


@law
@given(st.sampled_from(sorted(seeds.BODIES)), st.data(), st.integers(1, 4), st.booleans())
def test_damaged_structure(scanner_min_bytes: int, name: str, data: st.DataObject, times: int, asked: bool) -> None:  # noqa: FBT001
    """Values of other types, missing and repeated keys, and parts in the wrong place."""
    body = seeds.BODIES[name]
    for _ in range(times):
        body = seeds.damage_structure(body, picker(data))

    seeds.check(json.dumps(body).encode(), asked=asked, scanner_min_bytes=scanner_min_bytes)


@law
@given(st.sampled_from(sorted(seeds.contents())), st.data(), st.integers(1, 4), st.booleans())
def test_damaged_bytes(scanner_min_bytes: int, name: str, data: st.DataObject, times: int, asked: bool) -> None:  # noqa: FBT001
    """Bytes that are changed, cut or repeated."""
    content = seeds.contents()[name]
    for _ in range(times):
        content = seeds.damage_bytes(content, picker(data))

    seeds.check(content, asked=asked, scanner_min_bytes=scanner_min_bytes)


@law
@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode), st.booleans())
def test_noise(scanner_min_bytes: int, content: bytes, asked: bool) -> None:  # noqa: FBT001
    """Any bytes and any text."""
    seeds.check(content, asked=asked, scanner_min_bytes=scanner_min_bytes)


@pytest.mark.parametrize(
    "opening", ['{"a":', "[", '{"choices":[{"logprobs":', '{"output":[', "data: [", '[{"choices":']
)
@pytest.mark.parametrize("depth", [100, 2_000, 200_000])
def test_deep_nesting_is_a_failure(scanner_min_bytes: int, opening: str, depth: int) -> None:
    """Deep nesting is a failure, whether the brackets are closed or not."""
    for content in (opening + "[" * depth, opening + "[" * depth + "]" * depth + "}"):
        seeds.check(content.encode(), asked=True, scanner_min_bytes=scanner_min_bytes)
