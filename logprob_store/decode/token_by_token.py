"""The logprobs of one choice, read token by token: exact and slow.

Reads every value that the compiled scanner does not take. It also adds what stands beside `logprobs`, and refuses a
choice that lacks tokens. Leaves out the formats themselves (`formats`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from logprob_store.decode import wire
from logprob_store.decode.formats import prompt_logprobs, registry
from logprob_store.decode.formats.base import ChoiceContext
from logprob_store.decode.formats.body import keys_for_message, kind_of, loads
from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.decode.decoding_task import DecodingTask
    from logprob_store.decode.formats.base import Choice, TokensBySection
    from logprob_store.decode.row_segments import DecodedRows
    from logprob_store.decode.token_rows import Token


def read_token_by_token(task: DecodingTask, rows: DecodedRows, wire_texts: dict[int, str]) -> None:
    """Add the rows of a choice's `logprobs`, and the text of its `wire` column."""
    choice, context = task.choice, _context_of(task)
    value = _parsed(choice.logprobs)
    if value is None or value is msgspec.UNSET:
        wire_texts[task.completion_id] = wire.as_text({"shape": "null" if value is None else "absent"})
        return
    name = choice.shape
    recognised = registry.recognised_shape(value) if isinstance(value, dict) else None
    shape = recognised if name is None else registry.shape_named(name)
    if shape is None:
        if task.answer.request.asks_logprobs and not _is_whole_without_tokens(choice):
            found = keys_for_message(value) if isinstance(value, dict) else kind_of(value)
            raise DecodeError(f"{context.path}: no list of tokens, but {found}", error_type="no_logprobs")
        wire_texts[task.completion_id] = wire.with_patch({"shape": "other"}, None, value)
        return
    template, tokens = shape.read_tokens(value, context)
    prompt_text = None
    if choice.prompt_logprobs is not None and tokens.get("prompt"):
        prompt_text, tokens = _merge_echo(choice, context, tokens)
    text = wire.with_patch(template, shape.rebuild(template, tokens), value, ordered=shape.ORDERED)
    if prompt_text is not None:
        text = wire.with_key(text, prompt_logprobs.NAME, prompt_text)
    wire_texts[task.completion_id] = text
    rows.add_tokens(task.completion_id, tokens)


def _merge_echo(choice: Choice, context: ChoiceContext, tokens: TokensBySection) -> tuple[str, TokensBySection]:
    """Merge an echoed prompt with vLLM's `prompt_logprobs` of it: the text for the `wire` column, and the tokens.

    The echo has the first token, `prompt_logprobs` has ids and ranks. Where the two disagree, the rows are the echo's.
    """
    value, template, listed = _read_prompt_logprobs(choice, context)
    echoed = tokens["prompt"]
    if not prompt_logprobs.agree(listed, echoed):
        return wire.with_patch({"shape": "other"}, None, value), tokens
    merged = [echo if one is None else one for one, echo in zip(listed, echoed, strict=True)]
    template["echo"] = True
    rebuilt = prompt_logprobs.rebuild(template, {"prompt": merged})
    return wire.with_patch(template, rebuilt, value, ordered=True), {**tokens, "prompt": merged}


def _read_prompt_logprobs(choice: Choice, context: ChoiceContext) -> tuple[Any, dict[str, Any], Sequence[Token | None]]:
    """The wire's value of vLLM's `prompt_logprobs`, its template, and its tokens; none where it is no list."""
    value = _parsed(choice.prompt_logprobs)
    if not isinstance(value, list):
        return value, {"shape": "other"}, ()
    ids = _parsed(choice.prompt_token_ids)
    context = replace(context, path=choice.prompt_path, prompt_token_ids=ids)
    template, tokens = prompt_logprobs.read_tokens(value, context)
    return value, template, tokens["prompt"]


def _parsed(value: Any) -> Any:
    return loads(value) if isinstance(value, bytes) else value


def add_layout_and_prompt(task: DecodingTask, rows: DecodedRows, wire_texts: dict[int, str]) -> None:
    """Add a body's layout to the `wire` column; add vLLM's `prompt_logprobs` to it and to the rows."""
    choice, key = task.choice, task.completion_id
    if choice.layout is not None:
        wire_texts[key] = wire.with_key(wire_texts[key], "layout", wire.as_text(choice.layout))
    if choice.prompt_logprobs is None or rows.just_added(key, "prompt"):
        return
    value, template, listed = _read_prompt_logprobs(choice, _context_of(task))
    tokens = {"prompt": listed}
    rebuilt = prompt_logprobs.rebuild(template, tokens) if template["shape"] == prompt_logprobs.NAME else None
    text = wire.with_patch(template, rebuilt, value, ordered=True)
    rows.add_tokens(key, tokens)
    wire_texts[key] = wire.with_key(wire_texts[key], prompt_logprobs.NAME, text)


def _context_of(task: DecodingTask) -> ChoiceContext:
    body = task.answer.request.body
    prompt = body.get("prompt")
    prompt_tokens = task.reply.prompt_tokens
    completion_tokens = task.reply.completion_tokens if len(task.reply.choices) == 1 else None
    if completion_tokens is None and body.get("max_tokens") == 0:
        completion_tokens = 0
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
        completion_tokens=completion_tokens,
    )


def refuse_missing_tokens(task: DecodingTask) -> None:
    """Raise DecodeError for a choice without tokens, unless it is whole without or empty, as the server says."""
    choice, path = task.choice, task.choice.path
    if _is_whole_without_tokens(choice):
        return
    if choice.lacks_logprobs:
        state = "absent" if choice.logprobs is msgspec.UNSET else "null"
        raise DecodeError(f"{path}: {state}, though asked for", error_type="no_logprobs")
    only_choice = len(task.reply.choices) == 1
    if choice.text or choice.refusal or (only_choice and task.reply.completion_tokens):
        raise DecodeError(f"{path}: no tokens in it, though the answer is not empty", error_type="no_logprobs")


def _is_whole_without_tokens(choice: Choice) -> bool:
    """Whether a choice has no text that tokens would spell, and says what it has instead or why it ended.

    Such as tool calls alone, a `length` that reasoning used up, or a text that a content filter held back.
    """
    # Parsers of tool calls leave the white space that stood before the calls.
    text = (choice.text or "").strip() if choice.tool_calls else choice.text
    return not text and not choice.refusal and bool(choice.tool_calls or choice.finish_reason)
