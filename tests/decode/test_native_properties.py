"""Laws of decoding native bodies: nothing is lost, every way gives the same rows, and no body raises."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from builders import answer_with
from decode.decoding import rebuild, same
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from logprob_store.decode.decoder import decode_answers
from logprob_store.decode.formats.registry import BODIES as BODY_FORMATS
from logprob_store.decode.formats.registry import STREAMS

if TYPE_CHECKING:
    from collections.abc import Callable

    from logprob_store.decode.decoder import Decoded

ABSENT: Any = object()
"""Stands for a key that is left out."""

texts = st.sampled_from(["", " a", "é", "\ud83d", '"prob":', '\\"prob"', "\x00", "😀", "?"]) | st.text(max_size=4)
logprobs = st.floats(max_value=0, allow_nan=False) | st.sampled_from([0, -0.0, -9999.0, 0.69, 5, None])
probabilities = (
    st.floats(0, 1, width=32)
    | st.floats(0, 1)
    | st.floats(allow_nan=True)
    | st.sampled_from([0, 1, -0.0, 1.5, None, 10**400, True])
)
ids = st.integers(-(2**31), 2**31 - 1) | st.sampled_from([0, 1, 2, 2**31, -1, 1.0, True, None, "7"])
spelled = st.none() | st.lists(st.integers(0, 255), max_size=4) | st.just([256])
booleans = st.sampled_from([True, False, False, None])
odd = st.sampled_from([None, 5, "x", [], {}, [[]], [{}], -1.5, True, 2**70, float("nan"), {"a": [1]}, "\ud83d"])


def objects(**keys: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with these keys in any order; a key whose value is ABSENT is left out."""

    def ordered(pairs: tuple[dict[str, Any], list[str]]) -> dict[str, Any]:
        held, names = pairs
        return {name: held[name] for name in names if held[name] is not ABSENT}

    return st.tuples(st.fixed_dictionaries(keys), st.permutations(sorted(keys))).map(ordered)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """These values, or ABSENT."""
    return values | values | values | st.just(ABSENT)


def lists(values: st.SearchStrategy[Any], size: int = 3) -> st.SearchStrategy[list[Any]]:
    """Short lists."""
    return st.lists(values, max_size=size)


def chat_like(id_key: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A list of tokens of the chat shape."""
    keys = {"token": texts, "logprob": logprobs, "bytes": maybe(spelled), "id": id_key}
    return lists(objects(**keys, top_logprobs=maybe(st.none() | lists(objects(**keys)))))


def with_probabilities() -> st.SearchStrategy[Any]:
    """A list of llama.cpp's tokens with probabilities, of today's form or the old one."""
    keys = {"id": maybe(ids), "token": texts, "bytes": maybe(spelled), "prob": maybe(probabilities)}
    today = objects(**keys, top_probs=maybe(st.none() | lists(objects(**keys))))
    old = objects(content=texts, probs=maybe(lists(objects(tok_str=texts, prob=probabilities))))
    mixed = objects(
        content=texts, prob=maybe(probabilities), logprob=maybe(logprobs), probs=lists(objects(tok_str=texts))
    )
    return lists(today) | lists(old) | lists(today | old | mixed)


@st.composite
def beside(draw: st.DrawFn, tokens: st.SearchStrategy[Any], items: st.SearchStrategy[Any]) -> tuple[Any, Any]:
    """A list of tokens, and a list of lists of alternatives that is as long or one shorter."""
    chosen = draw(lists(tokens, 4))
    shorter = draw(st.integers(0, 1)) if chosen else 0
    length = len(chosen) - shorter
    return chosen, draw(st.none() | st.lists(items, min_size=length, max_size=length))


def llamacpp_item() -> st.SearchStrategy[Any]:
    """An answer of /completion."""
    part = maybe(st.none() | chat_like(maybe(ids)) | with_probabilities())
    return objects(content=texts, tokens_predicted=st.just(2), stop_type=st.just("eos"), completion_probabilities=part)


def ollama_body() -> st.SearchStrategy[Any]:
    """An answer of /api/generate."""
    part = maybe(st.none() | chat_like(st.just(ABSENT)))
    return objects(response=texts, done=st.just(value=True), created_at=texts, logprobs=part)


@st.composite
def sglang_item(draw: st.DrawFn) -> Any:
    """An answer of /generate."""
    triple = st.tuples(logprobs, ids, st.none() | texts).map(list)
    triples = st.lists(triple, max_size=3)
    wide = triple | triple.map(lambda item: item[:2]) | triple.map(lambda item: [*item, 5])
    meta: dict[str, Any] = {"finish_reason": {"type": "stop"}}
    old = draw(st.booleans())
    asked = draw(st.lists(st.integers(0, 5), max_size=3))
    for prefix in ("prefill", "decode") if old else ("input", "output"):
        tokens, tops = draw(beside(wide, st.none() | triples))
        meta |= {f"{prefix}_token_logprobs": tokens, f"{prefix}_top_logprobs": tops}
        if draw(st.booleans()):
            given_ids = [[[draw(logprobs), number, None] for number in asked] for _ in tokens]
            meta[f"{prefix}_token_ids_logprobs"] = given_ids
        if draw(st.integers(0, 5)) == 0:
            meta[f"{prefix}_token_logprobs"], meta[f"{prefix}_top_logprobs"] = None, None
            meta.pop(f"{prefix}_token_ids_logprobs", None)
    names = draw(st.permutations(sorted(meta)))
    return {"text": draw(texts), "meta_info": {name: meta[name] for name in names}}


@st.composite
def tgi_details(draw: st.DrawFn, *, best: bool = True) -> dict[str, Any]:
    """The details of an answer of /generate."""
    keys = {"id": ids, "text": texts, "logprob": maybe(logprobs), "special": maybe(booleans)}
    triple = st.tuples(ids, texts, logprobs).map(list)
    tokens, tops = draw(
        beside(objects(**keys) | triple if draw(st.booleans()) else objects(**keys), lists(objects(**keys)))
    )
    prefill = lists(objects(id=ids, text=texts, logprob=maybe(logprobs)))
    details = {"tokens": tokens, "prefill": draw(maybe(st.none() | prefill)), "top_tokens": tops}
    details["finish_reason"] = "length"
    if best:
        others = st.lists(tgi_details(best=False), max_size=2)
        details["best_of_sequences"] = draw(maybe(st.none() | others))
    if draw(st.booleans()):
        details.pop("top_tokens")
    return {key: value for key, value in details.items() if value is not ABSENT}


def tgi_item() -> st.SearchStrategy[Any]:
    """An answer of /generate."""
    return objects(generated_text=texts, details=maybe(st.none() | tgi_details()))


@st.composite
def gemini_body(draw: st.DrawFn) -> Any:
    """An answer of generateContent in either spelling."""
    snake = draw(st.booleans())
    names = {
        "avg": ("avgLogprobs", "avg_logprobs"),
        "result": ("logprobsResult", "logprobs_result"),
        "chosen": ("chosenCandidates", "chosen_candidates"),
        "top": ("topCandidates", "top_candidates"),
        "id": ("tokenId", "token_id"),
        "logprob": ("logProbability", "log_probability"),
    }
    name = {key: spellings[snake] for key, spellings in names.items()}
    one = objects(**{"token": maybe(st.none() | texts), name["id"]: maybe(ids), name["logprob"]: maybe(logprobs)})
    candidates = []
    for _ in range(draw(st.integers(1, 2))):
        chosen, tops = draw(beside(one, objects(candidates=maybe(st.none() | lists(one)))))
        result = {name["chosen"]: chosen, name["top"]: tops, "logProbabilitySum": draw(logprobs)}
        candidate: dict[str, Any] = {
            name["avg"]: draw(logprobs),
            name["result"]: draw(st.sampled_from([result, result, None])),
        }
        candidates.append({**candidate, "content": {"parts": [{"text": draw(texts)}]}})
        if draw(st.booleans()):
            candidates[-1].pop(draw(st.sampled_from([name["avg"], name["result"]])))
    return {"candidates": candidates, "modelVersion": "m"}


def one_or_many(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A body that is an object, or a list of objects."""
    return items | st.lists(items, min_size=1, max_size=3)


BODIES = {
    "llamacpp": one_or_many(llamacpp_item()),
    "ollama": ollama_body(),
    "sglang": one_or_many(sglang_item()),
    "tgi": one_or_many(tgi_item()),
    "gemini": gemini_body(),
}
any_body = st.one_of(*BODIES.values())


def dicts(value: Any) -> list[dict[str, Any]]:
    """The objects in a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def parts_of(body: Any) -> list[Any]:
    """The logprobs part of each choice, read from the raw JSON; None where there is none."""
    found: list[Any] = []
    for item in body if isinstance(body, list) else [body]:
        if not isinstance(item, dict):
            continue
        if "candidates" in item:
            keys = ("avgLogprobs", "avg_logprobs", "logprobsResult", "logprobs_result")
            found += [{key: one[key] for key in keys if key in one} or None for one in dicts(item["candidates"])]
        elif "meta_info" in item:
            meta = item["meta_info"] if isinstance(item["meta_info"], dict) else {}
            found.append({key: value for key, value in meta.items() if key.endswith("_logprobs")} or None)
        elif "generated_text" in item or "details" in item:
            [details] = dicts([item.get("details")]) or [{}]
            for one in [details, *dicts(details.get("best_of_sequences"))]:
                found.append({key: one[key] for key in ("tokens", "prefill", "top_tokens") if key in one} or None)
        elif "done" in item:
            found.append(item.get("logprobs"))
        else:
            found.append(item.get("completion_probabilities"))
    return found


def decode_all(bodies: list[Any]) -> Decoded:
    """Decode bodies of any size with the scanner, without asking for logprobs, so that an empty body is no failure."""
    answers = [answer_with(body, prompt_index=n, logprobs=False) for n, body in enumerate(bodies)]
    return decode_answers(answers, scanner_min_bytes=0)


law = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.mark.parametrize("name", BODIES)
def test_what_was_on_the_wire_can_be_rebuilt_from_the_tables_alone(name: str) -> None:
    """Every value of the logprobs part of every choice is rebuilt, regular or not."""

    @law
    @given(BODIES[name])
    def holds(body: Any) -> None:
        decoded = decode_all([body])

        assert decoded.failures == []

        rebuilt = rebuild(decoded)

        assert list(rebuilt) == list(range(len(rebuilt)))
        assert len(rebuilt) == len(parts_of(body))
        for one, other in zip(parts_of(body), rebuilt.values(), strict=True):
            assert same(one, other), (one, other)

    holds()


@law
@given(st.lists(any_body, min_size=1, max_size=5), st.randoms())
def test_neither_order_nor_batching_changes_a_row(bodies: list[Any], random: Any) -> None:
    """One by one, or all at once in any order, bodies give the same rows."""
    answers = [answer_with(body, prompt_index=n, logprobs=False) for n, body in enumerate(bodies)]
    alone = [decode_answers([answer], scanner_min_bytes=0) for answer in answers]
    random.shuffle(answers)
    together = decode_answers(answers, scanner_min_bytes=0)

    for table in ("completions", "tokens", "alternatives"):
        rows = [row for one in alone for row in getattr(one, table).to_pylist()]

        assert repr(getattr(together, table).to_pylist()) == repr(rows)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, held in inside for found in places(held, (*path, key)))]


def mutated(body: Any, change: Callable[[Any, Any], None], path: tuple[Any, ...]) -> Any:
    """A copy of a body in which `change` has changed one value, given its holder and its key or index."""
    copy = json.loads(json.dumps(body))
    holder = copy
    for step in path[:-1]:
        holder = holder[step]
    change(holder, path[-1])
    return copy


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A body in which one or two values are replaced, removed or repeated."""
    body = draw(any_body)
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(places(body)))
        value = draw(odd)
        kind = draw(st.integers(0, 2))
        if not path:
            continue

        def change(holder: Any, step: Any, kind: int = kind, value: Any = value) -> None:
            if kind == 0:
                holder[step] = value
            elif kind == 1:
                del holder[step]
            elif isinstance(holder, list):
                holder.insert(step, holder[step])
            else:
                holder[f"{step}x"] = holder[step]

        body = mutated(body, change, path)
    return body


def is_read_as_stream(body: Any) -> bool:
    """Whether a body is a list of something else than whole answers: its items are merged as pieces of one answer."""
    starts = [form for form in BODY_FORMATS if getattr(form, "LISTS", False)]
    if not isinstance(body, list) or not any(form.recognises(dicts(body)[0]) for form in starts if dicts(body)):
        return isinstance(body, list)
    stream = next((form for form in STREAMS if form.recognises(dicts(body)[0])), None)
    pieces = [stream.describe(item) for item in dicts(body)] if stream else []
    return len(pieces) > 1 and any(piece is not None and not piece.ends for piece in pieces)


STARTS = (
    "the body",
    "the answer",
    "the server",
    "the stream",
    "[",
    "index",
    "choices",
    "completion_probabilities",
    "logprobs",
    "message",
    "meta_info",
    "details",
    "candidates",
    "a stream of no known format",
    "output",
    "item ",
    "piece",
    "this is an answer of",
)


@pytest.mark.slow
@settings(law, max_examples=300)
@given(damaged())
@example([{}, {"completion_probabilities": None, "content": "", "stop_type": "eos", "tokens_predicted": 2}])
def test_a_damaged_body_gives_rows_or_a_failure_that_says_where(body: Any) -> None:
    """No body raises; decoded rows can be rebuilt, and a failure names the place."""
    decoded = decode_all([body])

    for _, error in decoded.failures:
        assert str(error).startswith(STARTS), error
        assert str(error).isprintable()
        assert len(str(error)) < 600
    if not decoded.failures and not is_read_as_stream(body):
        rebuilt = [value for _, value in sorted(rebuild(decoded).items())]
        expected = parts_of(body)

        assert len(rebuilt) == len(expected)
        assert all(any(same(one, other) for other in expected) for one in rebuilt), (rebuilt, expected)
