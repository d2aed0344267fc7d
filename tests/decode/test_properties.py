"""Laws of decoding, for values that hypothesis makes up: lossless, one result however it is reached."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logprob_store.decode import chat_bulk, decode_answers, decoding

if TYPE_CHECKING:
    from logprob_store.decode import Decoded

_spec = importlib.util.spec_from_file_location("decode_conftest", Path(__file__).with_name("conftest.py"))
assert _spec is not None
assert _spec.loader is not None
shared = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(shared)

ODD_TEXTS = [
    "",
    ":",
    '":',
    '"bytes":',
    '"id":',
    "\\",
    "\\u003a",
    "\ud83d",
    "\ude00x",
    "😀",
    "\x00\n\r\t\x7f",
    "-0,",
    "[{",
    "}",
]
texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=6) | st.text(st.characters(codec="ascii"), max_size=4)
plain_numbers = st.floats(max_value=0, allow_nan=False, allow_infinity=False) | st.sampled_from([0, -1, 0.0, -0.0])
flagged_numbers = st.sampled_from([-9999.0, -9999, -3.4e38, 0.69, 1e300, 3])
odd_numbers = st.sampled_from(
    [None, True, "-0.1", [], float("nan"), float("inf"), float("-inf"), 2**53 + 1, -(10**30), -(10**400)]
)
numbers = plain_numbers | flagged_numbers
spelled = st.none() | st.lists(st.integers(0, 255), max_size=4)
odd_spelled = st.sampled_from([[256], [-1], [1.0], [None], [True], "a", {}, [10**30]])
ids = st.none() | st.integers(-(2**31), 2**31 - 1)
odd_ids = st.sampled_from([2**31, -(10**30), 1.0, True, "7", []])
extras = st.dictionaries(
    st.sampled_from(["extra", "", "rank", "tok\ud83d"]),
    st.recursive(texts | odd_numbers, st.lists, max_leaves=4),
    max_size=2,
)


def maybe(odd: bool, ordinary: st.SearchStrategy[Any], other: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:  # noqa: FBT001
    """The ordinary values, and the odd ones too where these are wanted."""
    return ordinary | other if odd else ordinary


@st.composite
def one_token(draw: st.DrawFn, keys: list[str], *, odd: bool) -> dict[str, Any]:
    """A token or an alternative with these keys; an odd one lacks some, has others, and holds odd values."""
    made: dict[str, Any] = {"token": draw(texts), "logprob": draw(maybe(odd, numbers, odd_numbers))}
    if "bytes" in keys:
        made["bytes"] = draw(maybe(odd, spelled, odd_spelled))
    if "id" in keys:
        made["id"] = draw(maybe(odd, ids, odd_ids))
    if odd and draw(st.integers(0, 3)) == 0:
        made.update(draw(extras))
        for key in draw(st.sets(st.sampled_from(["logprob", "bytes", "id"]))):
            made.pop(key, None)
    names = draw(st.permutations(list(made)))
    return {name: made[name] for name in names}


@st.composite
def chat_values(draw: st.DrawFn, *, odd: bool) -> dict[str, Any]:
    """A `logprobs` value of the chat shape."""
    token_keys, other_keys = (draw(st.lists(st.sampled_from(["bytes", "id"]), unique=True)) for _ in range(2))
    top = draw(st.sampled_from(["list", "list", "list", "none", "null"]))

    def listed() -> list[dict[str, Any]]:
        made = draw(st.lists(one_token(token_keys, odd=odd), min_size=0 if odd else 1, max_size=4))
        for token in made:
            if top == "list":
                token["top_logprobs"] = draw(st.lists(one_token(other_keys, odd=odd), max_size=3))
            elif top == "null":
                token["top_logprobs"] = None
            if odd and draw(st.integers(0, 5)) == 0:
                token["top_logprobs"] = None
        return made

    value: dict[str, Any] = {"content": listed()}
    for key in draw(st.sets(st.sampled_from(["refusal", "reasoning_content"]))):
        value[key] = draw(st.sampled_from([None, "list"])) and listed()
    if odd:
        value.update(draw(extras))
        if draw(st.booleans()):
            value["content"] = None
            value.setdefault("refusal", None)
    names = draw(st.permutations(list(value)))
    return {name: value[name] for name in names}


@st.composite
def legacy_values(draw: st.DrawFn) -> dict[str, Any]:
    """A `logprobs` value of the legacy completions shape."""
    tokens = draw(st.lists(texts, max_size=5))
    held = maybe(odd=True, ordinary=numbers, other=odd_numbers)
    several = {"min_size": len(tokens), "max_size": len(tokens)}
    start = draw(st.integers(-3, 5))
    derived = [start + len("".join(tokens[:n])) for n in range(len(tokens))]
    value = {
        "tokens": tokens,
        "token_logprobs": draw(st.none() | st.lists(held, **several)),
        "top_logprobs": draw(st.none() | st.lists(st.none() | st.dictionaries(texts, held, max_size=3), **several)),
        "text_offset": draw(st.none() | st.just(derived) | st.lists(st.integers(-9, 9) | odd_numbers, max_size=5)),
        "token_ids": draw(st.none() | st.lists(ids | odd_ids, **several)),
        "content": None,
        **draw(extras),
    }
    names = draw(st.permutations(sorted(value)))
    absent = draw(st.sets(st.sampled_from([name for name in value if name != "tokens"])))
    return {name: value[name] for name in names if name not in absent}


@st.composite
def spellings(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> bytes:
    """A body of a few choices, in one of the ways JSON can be written."""
    listed = draw(st.lists(values, min_size=1, max_size=3))
    indices = draw(st.permutations(range(len(listed))))
    choices = [
        {"index": n, "text": "x", "message": {"content": "x", "reasoning_content": "r"}, "logprobs": value}
        for n, value in zip(indices, listed, strict=True)
    ]
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : "), (",\n", ":\t")]))
    text = json.dumps({"choices": choices}, separators=separators, ensure_ascii=draw(st.booleans()))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps({"choices": choices}, separators=separators).encode()


def originals(contents: list[bytes]) -> dict[int, Any]:
    """What a rebuild has to give: completion_id is prompt_index * 10**8 + choice_index."""
    return {
        number * 10**8 + choice["index"]: choice["logprobs"]
        for number, content in enumerate(contents)
        for choice in json.loads(content)["choices"]
    }


def decode_all(contents: list[bytes]) -> Decoded:
    """Decode bodies that hold what was not asked for, so that an empty one is no failure."""
    return decode_answers([shared.make_answer(c, prompt_index=n, logprobs=False) for n, c in enumerate(contents)])


@pytest.fixture(autouse=True)
def _small_slices_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_bulk, "_SMALL", 0)


law = settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
any_body = spellings(chat_values(odd=False)) | spellings(chat_values(odd=True)) | spellings(legacy_values())


@law
@given(st.lists(any_body, min_size=1, max_size=4))
def test_what_was_on_the_wire_can_be_rebuilt_from_the_tables_alone(contents: list[bytes]) -> None:
    """Tables to JSON value gives the value that the body held, in every shape, odd or not."""
    decoded = decode_all(contents)

    assert decoded.failures == []

    rebuilt = shared.rebuild(decoded)
    expected = originals(contents)

    assert rebuilt.keys() == expected.keys()
    assert all(shared.same(expected[key], rebuilt[key]) for key in expected)


@law
@given(spellings(legacy_values()))
def test_the_order_of_legacy_alternatives_survives(content: bytes) -> None:
    """The order of the keys of a dict of alternatives is their rank, so it is rebuilt too."""
    rebuilt = shared.rebuild(decode_all([content]))

    for key, value in originals([content]).items():
        for one, other in zip(value.get("top_logprobs") or [], rebuilt[key].get("top_logprobs") or [], strict=True):
            assert one is None or list(one) == list(other)


def assert_same_tables(one: Decoded, other: Decoded) -> None:
    """All three tables are equal, value by value; NaN equals NaN."""
    for name in ("completions", "tokens", "alternatives"):
        left, right = getattr(one, name), getattr(other, name)

        assert left.schema == right.schema
        assert repr(left.to_pylist()) == repr(right.to_pylist())


@law
@given(st.lists(spellings(chat_values(odd=False)) | any_body, min_size=1, max_size=5))
def test_the_fast_way_and_the_exact_way_give_the_same_tables(contents: list[bytes]) -> None:
    """Whether a slice is parsed in bulk or token by token leaves no trace."""
    fast = decode_all(contents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "read_regular", lambda _slices, _pieces: {})
        exact = decode_all(contents)

    assert_same_tables(fast, exact)


@law
@given(st.lists(any_body | st.binary(max_size=20), min_size=1, max_size=6), st.randoms(), st.booleans())
def test_neither_order_nor_batching_changes_a_row(contents: list[bytes], random: Any, parts: bool) -> None:  # noqa: FBT001
    """One by one and concatenated, shuffled, or in parts on several threads: the same rows."""
    answers = [shared.make_answer(c, prompt_index=n, logprobs=False) for n, c in enumerate(contents)]
    alone = [decode_answers([answer]) for answer in answers]
    shuffled = list(range(len(answers)))
    random.shuffle(shuffled)
    with pytest.MonkeyPatch.context() as patch:
        if parts:
            patch.setattr(decoding, "_PART_BYTES", 100)
        together = decode_answers([answers[n] for n in shuffled])

    for name in ("completions", "tokens", "alternatives"):
        rows = [row for one in alone for row in getattr(one, name).to_pylist()]

        assert repr(getattr(together, name).to_pylist()) == repr(rows)

    failed = {n for n, one in enumerate(alone) if one.failures}

    assert [index for index, _ in together.failures] == sorted(shuffled.index(n) for n in failed)


@law
@given(st.lists(st.floats(max_value=0, allow_nan=False, allow_infinity=False), min_size=8, max_size=8))
def test_floats_keep_every_bit_on_the_fast_way(values: list[float]) -> None:
    """The parser rounds as Python does, to the last bit."""
    body = shared.make_body({"content": [{"token": "a", "logprob": value} for value in values]})
    decoded = decode_answers([shared.make_answer(body)])

    assert decoded.tokens.column("logprob_wire").null_count == sum(value > -9999 for value in values)
    assert [e["logprob"].hex() for e in shared.rebuild(decoded)[0]["content"]] == [value.hex() for value in values]
