"""The logprobs of one choice, read token by token: exact and slow.

Reads every value that the compiled scanner does not take. It also adds what stands beside `logprobs`, and refuses a
choice that lacks tokens. Leaves out the formats themselves (`formats`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from logprob_store.decode import wire
from logprob_store.decode.formats import prompt_logprobs
from logprob_store.decode.formats.base import ChoiceContext
from logprob_store.decode.formats.body import expect_object, keys_for_message, loads
from logprob_store.decode.formats.registry import recognised_shape, shape_named
from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.decode.decoding_task import DecodingTask
    from logprob_store.decode.formats.base import Choice, TokensBySection
    from logprob_store.decode.segments import DecodedRows
    from logprob_store.decode.token_rows import Token


def read_token_by_token(task: DecodingTask, rows: DecodedRows, wire_texts: dict[int, str]) -> None:
    """Add the rows of a choice's `logprobs`, and the text of its `wire` column."""
    choice, context = task.choice, _context_of(task)
    value = loads(choice.logprobs) if isinstance(choice.logprobs, bytes) else choice.logprobs
    if value is None or value is msgspec.UNSET:
        wire_texts[task.completion_id] = wire.as_text({"shape": "null" if value is None else "absent"})
        return
    name = choice.shape
    shape = recognised_shape(expect_object(value, context.path)) if name is None else shape_named(name)
    if shape is None:
        if task.answer.request.asks_logprobs:
            keys = keys_for_message(value)
            raise DecodeError(f"{context.path}: no list of tokens in it, only {keys}", error_type="no_logprobs")
        wire_texts[task.completion_id] = wire.with_patch({"shape": "other"}, None, value)
        return
    template, tokens = shape.read_tokens(value, context)
    prompt_text = None
    if choice.prompt_logprobs is not None and tokens.get("prompt"):
        prompt_text, tokens = _merge_echo(choice, tokens)
    text = wire.with_patch(template, shape.rebuild(template, tokens), value, ordered=shape.ORDERED)
    if prompt_text is not None:
        text = wire.with_key(text, prompt_logprobs.NAME, prompt_text)
    wire_texts[task.completion_id] = text
    rows.add_tokens(task.completion_id, tokens)


def _merge_echo(choice: Choice, tokens: TokensBySection) -> tuple[str, TokensBySection]:
    """Merge an echoed prompt with vLLM's `prompt_logprobs` of it: the text for the `wire` column, and the tokens.

    The echo has the first token, `prompt_logprobs` has ids and ranks. Where the two disagree, the rows are the echo's.
    """
    value, template, listed = _read_prompt_logprobs(choice)
    echoed = tokens["prompt"]
    if not prompt_logprobs.agree(listed, echoed):
        return wire.with_patch({"shape": "other"}, None, value), tokens
    merged = [echo if one is None else one for one, echo in zip(listed, echoed, strict=True)]
    template["echo"] = True
    rebuilt = prompt_logprobs.rebuild(template, {"prompt": merged})
    return wire.with_patch(template, rebuilt, value, ordered=True), {**tokens, "prompt": merged}


def _read_prompt_logprobs(choice: Choice) -> tuple[Any, dict[str, Any], Sequence[Token | None]]:
    """The wire's value of vLLM's `prompt_logprobs`, its template, and its tokens."""
    raw = choice.prompt_logprobs
    value = loads(raw) if isinstance(raw, bytes) else raw
    template, tokens = prompt_logprobs.read_tokens(value, ChoiceContext(path=choice.prompt_path))
    return value, template, tokens["prompt"]


def add_layout_and_prompt(task: DecodingTask, rows: DecodedRows, wire_texts: dict[int, str]) -> None:
    """Add a body's layout to the `wire` column; add vLLM's `prompt_logprobs` to it and to the rows."""
    choice, key = task.choice, task.completion_id
    if choice.layout is not None:
        wire_texts[key] = wire.with_key(wire_texts[key], "layout", wire.as_text(choice.layout))
    if choice.prompt_logprobs is None or rows.just_added(key, "prompt"):
        return
    value, template, listed = _read_prompt_logprobs(choice)
    tokens = {"prompt": listed}
    text = wire.with_patch(template, prompt_logprobs.rebuild(template, tokens), value, ordered=True)
    rows.add_tokens(key, tokens)
    wire_texts[key] = wire.with_key(wire_texts[key], prompt_logprobs.NAME, text)


def _context_of(task: DecodingTask) -> ChoiceContext:
    body = task.answer.request.body
    prompt = body.get("prompt")
    prompt_tokens = task.reply.prompt_tokens
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        # Several prompts in one call: `n` choices of the first, then those of the next; the usage is that of all.
        n = body.get("n") if isinstance(body.get("n"), int) else 1
        prompt_tokens = prompt_tokens if len(prompt) == 1 else None
        prompt = prompt[min(task.choice.index // max(n or 1, 1), len(prompt) - 1)]
    return ChoiceContext(
        path=task.choice.path,
        echo=bool(body.get("echo")),
        prompt=prompt if isinstance(prompt, (str, list)) else None,
        text=task.choice.text,
        prompt_tokens=prompt_tokens,
        token_path=task.choice.token_path,
    )


def refuse_missing_tokens(task: DecodingTask) -> None:
    """Raise DecodeError for a choice without tokens, unless the model said nothing and the server says so."""
    choice, path = task.choice, task.choice.path
    if choice.lacks_logprobs:
        state = "absent" if choice.logprobs is msgspec.UNSET else "null"
        raise DecodeError(f"{path}: {state}, though asked for", error_type="no_logprobs")
    only_choice = len(task.reply.choices) == 1
    if choice.text or choice.refusal or choice.tool_calls or (only_choice and task.reply.completion_tokens):
        raise DecodeError(f"{path}: no tokens in it, though the answer is not empty", error_type="no_logprobs")
