"""Strategies for regular and irregular bodies, and the logprobs part of each, which has to be rebuilt."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

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
    "token_id:7",
    "token_id:99999999999",
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
    """The regular values and, if `odd`, the irregular ones too."""
    return ordinary | other if odd else ordinary


@st.composite
def one_token(draw: st.DrawFn, keys: list[str], *, odd: bool) -> dict[str, Any]:
    """A token or an alternative with these keys; an odd one may lack some, have others, and hold odd values."""
    made: dict[str, Any] = {"token": draw(texts), "logprob": draw(maybe(odd, numbers, odd_numbers))}
    if "bytes" in keys:
        made["bytes"] = draw(maybe(odd, spelled, odd_spelled))
    for name in {"id", "token_id"} & set(keys):
        made[name] = draw(maybe(odd, ids, odd_ids))
    if odd and draw(st.integers(0, 3)) == 0:
        made.update(draw(extras))
        for key in draw(st.sets(st.sampled_from(["logprob", "bytes", "id"]))):
            made.pop(key, None)
    names = draw(st.permutations(list(made)))
    return {name: made[name] for name in names}


@st.composite
def token_lists(draw: st.DrawFn, *, odd: bool) -> st.SearchStrategy[Any]:
    """Lists of tokens that have the same keys; odd ones differ in places."""
    keys = st.lists(st.sampled_from(["bytes", "id", "token_id"]), unique=True)
    token_keys, other_keys = draw(keys), draw(keys)
    top = draw(st.sampled_from(["list", "list", "list", "none", "null"]))
    others = st.lists(one_token(other_keys, odd=odd), max_size=3) if top == "list" else st.none()
    if odd:
        others |= st.none()
    offset = draw(st.booleans()) and odd
    beside = {} if top == "none" else {"top_logprobs": others}
    if offset:
        beside["text_offset"] = st.integers(0, 9) | odd_numbers
    token = st.tuples(one_token(token_keys, odd=odd), st.fixed_dictionaries(beside)).map(lambda two: two[0] | two[1])
    return st.lists(token, min_size=0 if odd else 1, max_size=4)


@st.composite
def chat_values(draw: st.DrawFn, *, odd: bool) -> dict[str, Any]:
    """A `logprobs` value of the chat shape."""
    listed = draw(token_lists(odd=odd))
    value: dict[str, Any] = {"content": draw(listed)}
    for key in draw(st.sets(st.sampled_from(["refusal", "reasoning_content"]))):
        value[key] = draw(st.none() | listed)
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
    """A body of a few choices, as JSON in one of several layouts."""
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


def asciied(text: str) -> bytes:
    """The text as UTF-8, with lone surrogates as escapes."""
    return "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in text).encode()


@st.composite
def prompt_values(draw: st.DrawFn) -> Any:
    """A `prompt_logprobs` value of vLLM, whose ranks may follow from the logprobs or not."""
    one = st.fixed_dictionaries(
        {"logprob": numbers | odd_numbers, "rank": st.integers(1, 4) | odd_ids},
        optional={"decoded_token": st.none() | texts, "extra": texts},
    )
    keys = st.integers(0, 2**31).map(str) | st.sampled_from(["", "-1", "007", "a", "9999999999"])
    entries = st.none() | st.dictionaries(keys, one, max_size=3)
    ranked = st.lists(st.floats(-9, 0), min_size=1, max_size=4).map(_ranked)
    return draw(st.none() | st.lists(entries | ranked, max_size=4))


def _ranked(logprobs: list[float]) -> dict[str, Any]:
    """An entry as vLLM makes it: the prompt's own token first, the others by rank."""
    own = logprobs[0]
    others = sorted(logprobs[1:], reverse=True)
    rank = 1 + sum(other > own for other in others)
    ranks = [rank, *[n for n in range(1, len(logprobs) + 1) if n != rank]]
    return {
        str(7 * n): {"logprob": logprob, "rank": ranks[n], "decoded_token": f"t{n}"}
        for n, logprob in enumerate([own, *others])
    }


@st.composite
def vllm_bodies(draw: st.DrawFn) -> bytes:
    """A body with logprobs of the prompt, in its choices or at the top."""
    choices = [
        {"index": n, "text": "x", "logprobs": value}
        for n, value in enumerate(draw(st.lists(chat_values(odd=False) | legacy_values(), min_size=1, max_size=2)))
    ]
    body: dict[str, Any] = {"choices": choices}
    if draw(st.booleans()):
        body["prompt_logprobs"] = draw(prompt_values())
    else:
        for choice in choices:
            choice["prompt_logprobs"] = draw(prompt_values())
    return json.dumps(body).encode()


@st.composite
def echoed_bodies(draw: st.DrawFn) -> tuple[dict[str, Any], int]:
    """A body with `prompt_logprobs` and with legacy logprobs that echo the same prompt, and the prompt's length."""
    prompt = [None, *draw(st.lists(st.lists(st.floats(-9, 0), min_size=1, max_size=4).map(_ranked), max_size=3))]
    listed = [list(entry.values()) if entry else [] for entry in prompt]
    value = {
        "tokens": [entry[0]["decoded_token"] if entry else "first" for entry in listed]
        + draw(st.lists(texts, max_size=2)),
        "token_logprobs": [entry[0]["logprob"] if entry else None for entry in listed],
        "top_logprobs": [{one["decoded_token"]: one["logprob"] for one in entry} or None for entry in listed],
    }
    more = len(value["tokens"]) - len(prompt)
    value["token_logprobs"] += [-1.0] * more
    value["top_logprobs"] += [None] * more
    if draw(st.integers(0, 3)) == 0:
        value["tokens"][draw(st.integers(0, len(prompt) - 1))] = "?"
    if draw(st.integers(0, 3)) == 0:
        prompt.append(prompt[-1])
    return {"choices": [{"index": 0, "text": "x", "logprobs": value, "prompt_logprobs": prompt}]}, len(listed)


@st.composite
def responses_bodies(draw: st.DrawFn, *, odd: bool) -> bytes:
    """A body of the Responses API: messages, reasoning, calls and refusals, with logprobs or without."""
    lists = chat_values(odd=odd).map(lambda value: value["content"])
    kinds = st.sampled_from(["output_text", "refusal", "reasoning_text"])

    def part() -> dict[str, Any]:
        made: dict[str, Any] = {"type": draw(kinds), "text": draw(texts)}
        if draw(st.booleans()):
            made["refusal"] = draw(texts)
        if draw(st.integers(0, 3)):
            made["logprobs"] = draw(lists | st.just([]) | st.none())
        return made

    def item() -> dict[str, Any]:
        kind = draw(st.sampled_from(["message", "message", "reasoning", "function_call"]))
        if kind == "function_call":
            return {"type": kind, "name": "f", "arguments": draw(texts)}
        return {"type": kind, "content": [part() for _ in range(draw(st.integers(0, 3)))]}

    body = {"object": "response", "status": "completed", "output": [item() for _ in range(draw(st.integers(1, 3)))]}
    return asciied(json.dumps(body, ensure_ascii=draw(st.booleans()), indent=draw(st.none() | st.integers(0, 1))))


@st.composite
def recorded_streams(draw: st.DrawFn) -> tuple[bytes, dict[str, Any]]:
    """A recorded stream, and the body that its pieces make."""
    values = draw(st.lists(st.none() | chat_values(odd=True) | legacy_values(), min_size=1, max_size=2))
    chunks: list[dict[str, Any]] = []
    choices = []
    for index, value in enumerate(values):
        text = draw(texts)
        cut = draw(st.integers(0, len(text)))
        pieces = _cut(draw, value)
        chunks += [{"choices": [{"index": index, "delta": {"content": text[:cut]}, "logprobs": pieces[0]}]}]
        chunks += [{"choices": [{"index": index, "delta": {}, "logprobs": piece}]} for piece in pieces[1:]]
        last = {"index": index, "delta": {"content": text[cut:]}, "logprobs": None, "finish_reason": "stop"}
        chunks += [{"choices": [last]}]
        choices.append({"index": index, "message": {"content": text}, "logprobs": value, "finish_reason": "stop"})
    if draw(st.booleans()):
        chunks = [chunk for chunk in chunks for chunk in ({"choices": []}, chunk)]
    dumped = [json.dumps({"object": "chat.completion.chunk", **chunk}) for chunk in chunks]
    sse = "".join(f"data: {text}\n\n" for text in dumped) + "data: [DONE]\n\n"
    written = draw(st.sampled_from([sse, sse.replace("\n", "\r\n"), f"[{','.join(dumped)}]", "\n".join(dumped)]))
    return written.encode(), {"choices": choices}


def _cut(draw: st.DrawFn, value: dict[str, Any] | None) -> list[Any]:
    """A value in two pieces: lists are cut in the middle, everything else is in the first piece."""
    if value is None:
        return [None]
    legacy = isinstance(value.get("tokens"), list)
    length = max((len(held) for held in value.values() if isinstance(held, list)), default=0)
    middle = draw(st.integers(0, length))
    if legacy and any(isinstance(held, list) and len(held) != len(value["tokens"]) for held in value.values()):
        middle = length
    first = {key: held[:middle] if isinstance(held, list) else held for key, held in value.items()}
    second = {key: held[middle:] if isinstance(held, list) else None for key, held in value.items()}
    return [first, second]


def parts_of(body: dict[str, Any]) -> dict[int, Any]:
    """The logprobs part of each choice, by its index."""
    if "output" in body:
        listed = [
            {"item": i, "part": j, "logprobs": part["logprobs"]}
            for i, item in enumerate(body["output"])
            for j, part in enumerate(item.get("content", []))
            if "logprobs" in part
        ]
        return {0: listed}
    parts = {choice["index"]: choice["logprobs"] for choice in body["choices"]}
    for n, choice in enumerate(body["choices"]):
        beside = choice.get("prompt_logprobs")
        if beside is None and n == 0:
            beside = body.get("prompt_logprobs")
        if beside is not None:
            parts[n] = {"logprobs": parts[n], "prompt_logprobs": beside}
    return parts
