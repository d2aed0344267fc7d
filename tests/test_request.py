"""Request keys: which requests have the same key."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.errors import PromptError
from logprob_store.request import build_body, canonical_json, make_request, provider_of, request_key

# Numbers that differ are kept apart by more than their spelling; True and 1 differ by type.
_LEAVES = st.none() | st.booleans() | st.integers(-100, 100) | st.text(max_size=8) | st.floats(-2, 2).map(float)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
_BODIES = st.dictionaries(st.text(min_size=1, max_size=8), _VALUES, min_size=1, max_size=4)


def _key(body: dict[str, Any], **changes: Any) -> str:
    return request_key(body, **{"endpoint": "chat", "provider": "p", "sample_index": 0, **changes})


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict) and value:
        return [leaf for name in value for leaf in _leaves(value[name], (*path, name))]
    if isinstance(value, list) and value:
        return [leaf for at in range(len(value)) for leaf in _leaves(value[at], (*path, at))]
    return [path]


def _reordered(value: Any) -> Any:
    if isinstance(value, dict):
        # What stands under `properties` keeps its order: it is the question's.
        return {name: value[name] if name == "properties" else _reordered(value[name]) for name in reversed(value)}
    if isinstance(value, list):
        return [_reordered(item) for item in value]
    return value


def test_key_of_a_simple_body_by_hand() -> None:
    """The key is the sha256 of sorted compact JSON of version, provider, endpoint, body and sample index."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Grüße"}], "temperature": 0.5}
    whole = {"key_version": 1, "provider": "p", "endpoint": "chat", "body": body, "sample_index": 2}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    expected = hashlib.sha256(text.encode()).hexdigest()

    assert _key(body, sample_index=2) == expected


@given(body=_BODIES, chosen=st.integers(0, 1000), new=_LEAVES)
def test_key_changes_with_any_leaf(body: dict[str, Any], chosen: int, new: Any) -> None:
    """Changing one leaf anywhere in the body gives another key."""
    paths = _leaves(body)
    *way, last = paths[chosen % len(paths)]
    changed = copy.deepcopy(body)
    place: Any = changed
    for part in way:
        place = place[part]
    old = place[last]
    place[last] = new
    same = type(old) is type(new) and old == new
    numbers = not isinstance(old, bool) and not isinstance(new, bool) and old == new

    assert (_key(changed) == _key(body)) == (same or numbers)


@given(body=_BODIES)
def test_key_ignores_the_order_of_names(body: dict[str, Any]) -> None:
    """The same names and values in another order are the same request."""
    assert _key(_reordered(body)) == _key(body)


@given(body=_BODIES, name=st.text(min_size=1, max_size=8), value=_LEAVES)
def test_key_changes_with_a_new_field(body: dict[str, Any], name: str, value: Any) -> None:
    """An additional field gives another key, even if its value is null or false."""
    expected_same = name in body

    assert (_key({name: value, **body}) == _key(body)) == expected_same


@pytest.mark.parametrize("changes", [{"endpoint": "completions"}, {"provider": "q"}, {"sample_index": 1}], ids=str)
def test_key_changes_with_endpoint_provider_and_sample(changes: dict[str, Any]) -> None:
    """Endpoint, provider and sample index are part of the key."""
    assert _key({"model": "m"}, **changes) != _key({"model": "m"})


@pytest.mark.parametrize(
    ("one", "other"), [(0, 0.0), (0.0, -0.0), (1, 1.0), (-3.0, -3), (1e3, 1000), (2**53 - 1, float(2**53 - 1))]
)
def test_one_number_has_one_spelling(one: float, other: float) -> None:
    """0 and 0.0 are one number."""
    assert _key({"temperature": one}) == _key({"temperature": other})


@pytest.mark.parametrize(
    ("one", "other"),
    [(True, 1), (False, 0), (None, False), (1, "1"), (0.1, 0.1 + 1e-12), ([], {}), ([1, 2], [2, 1]), ("é", "e\u0301")],
    ids=str,
)
def test_different_values_stay_different(one: Any, other: Any) -> None:
    """True is not 1; only the spelling of numbers and the order of names are normalised."""
    assert _key({"x": one}) != _key({"x": other})


def test_the_order_of_properties_is_part_of_the_question() -> None:
    """The order of a JSON schema's properties changes the key, because the model writes fields in that order."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
    swapped = {"properties": dict(reversed(schema["properties"].items())), "type": "object"}  # type: ignore[attr-defined]

    assert _key({"schema": swapped}) != _key({"schema": schema})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_without_a_json_form(number: float) -> None:
    """NaN and infinity are a PromptError."""
    with pytest.raises(PromptError, match="JSON cannot say"):
        make_request({"temperature": number}, endpoint="chat", provider="p")


@pytest.mark.parametrize("body", [{"prompt": "\ud800"}, {"\udfff": 1}, {"a": [{"b": "x\ud83d"}]}], ids=ascii)
def test_lone_surrogates(body: dict[str, Any]) -> None:
    """Text that UTF-8 cannot encode is a PromptError."""
    with pytest.raises(PromptError, match="surrogate"):
        make_request(body, endpoint="chat", provider="p")


@pytest.mark.parametrize("depth", [65, 100_000])
@pytest.mark.parametrize("kind", ["list", "dict"])
def test_deep_nesting(depth: int, kind: str) -> None:
    """Nesting that would exhaust the stack is a PromptError."""
    value: Any = 0
    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value}

    with pytest.raises(PromptError, match="nested deeper"):
        make_request({"x": value}, endpoint="chat", provider="p")


@pytest.mark.parametrize("names", [{1: "a"}, {None: 1}, {True: 1}, {"a": 1, 2: 1}, {b"x": 1}, {1.5: 0}], ids=str)
def test_names_that_are_no_text(names: dict[Any, Any]) -> None:
    """A name that JSON would turn into text is refused: 1 and "1" would have one key."""
    with pytest.raises(PromptError, match="not text"):
        make_request({"logit_bias": names}, endpoint="chat", provider="p")


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, 1j, b"x", datetime(2026, 1, 1, tzinfo=UTC), Decimal(1)],
    ids=lambda value: type(value).__name__,
)
def test_values_without_a_json_form(value: Any) -> None:
    """A value of a type that JSON lacks is a PromptError."""
    with pytest.raises(PromptError):
        make_request({"x": value}, endpoint="chat", provider="p")


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com:443/v1"),
        ("https://api.openai.com:443/v1/", "https://api.openai.com:443/v1"),
        ("HTTPS://API.OpenAI.com/v1", "https://api.openai.com:443/v1"),
        ("http://user:secret@host/v1?key=secret#part", "http://host:80/v1"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1"),
        ("http://host/V1", "http://host:80/V1"),
    ],
)
def test_provider_is_the_base_url_without_credentials(base_url: str, expected: str) -> None:
    """A provider is scheme, host, port and path, each in one spelling."""
    assert provider_of(base_url) == expected


def test_content_is_the_body_as_given() -> None:
    """The bytes sent keep the order and the numbers as given."""
    request = make_request({"b": 1.0, "a": [True, None, "é"]}, endpoint="chat", provider="p")

    assert request.content == '{"b":1.0,"a":[true,null,"é"]}'.encode()


def test_params_override_the_job() -> None:
    """`params` override the fields that ask for logprobs."""
    body = build_body("chat", model="m", prompt=[], top_logprobs=5, params={"top_logprobs": 2, "seed": 1})

    assert body == {"model": "m", "messages": [], "logprobs": True, "top_logprobs": 2, "seed": 1}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [({"logprobs": True}, True), ({"logprobs": 0}, True), ({"logprobs": False}, False), ({}, False)],
)
def test_asks_logprobs(wanted: dict[str, Any], expected: bool) -> None:  # noqa: FBT001
    """`logprobs: 0` asks for the chosen tokens' logprobs; false and absence ask for none."""
    assert make_request(wanted, endpoint="completions", provider="p").asks_logprobs is expected


@given(value=_VALUES)
def test_canonical_json_is_a_fixed_point(value: Any) -> None:
    """Canonical JSON read and written again is the same bytes."""
    once = canonical_json(value)

    assert canonical_json(json.loads(once)) == once


def test_no_stream_is_no_stream_whether_said_or_not() -> None:
    """`stream: false` is the default and makes no other call; `stream: true` does."""
    keys = [request_key({"model": "m", **said}, endpoint="chat", provider="p") for said in STREAM_SAID]

    assert keys[0] == keys[1] != keys[2]


STREAM_SAID: list[dict[str, bool]] = [{}, {"stream": False}, {"stream": True}]


@pytest.mark.parametrize(
    ("endpoint", "params", "expected"),
    [
        ("chat", {"stream": True}, {"include_usage": True}),
        ("completions", {"stream": True, "stream_options": None}, None),
        ("responses", {"stream": True}, "absent"),
        ("chat", {}, "absent"),
    ],
)
def test_a_stream_is_asked_for_its_usage(endpoint: str, params: dict[str, Any], expected: Any) -> None:
    """Unless the params say something about it; a stream of the Responses API has its usage anyway."""
    body = build_body(endpoint, model="m", prompt="Hi", params=params)

    assert body.get("stream_options", "absent") == expected
