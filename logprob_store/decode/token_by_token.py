"""The exact way for one choice: its `logprobs` token by token, what stands beside them, and whether they lack.

Any value goes this way that the bulk way does not take. Leaves out the formats (`registry`), the bulk way (`chat_bulk`)
and the way of many answers (`decoding`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from logprob_store.decode import wire
from logprob_store.decode.formats import prompt_logprobs
from logprob_store.decode.formats.base import ChoiceContext
from logprob_store.decode.formats.body import known_keys, loads
from logprob_store.decode.formats.registry import recognised_shape, shape_named
from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.decode.decoding_task import DecodingTask
    from logprob_store.decode.formats.base import Choice, TokensBySection
    from logprob_store.decode.segments import Pieces
    from logprob_store.decode.token_rows import Token


def read_exactly(task: DecodingTask, pieces: Pieces, wires: dict[int, str]) -> None:
    """Read one choice's `logprobs` token by token."""
    choice, context = task.choice, _context_of(task)
    value = loads(choice.logprobs) if isinstance(choice.logprobs, bytes) else choice.logprobs
    if value is None or value is msgspec.UNSET:
        wires[task.completion_id] = wire.as_text({"shape": "null" if value is None else "absent"})
        return
    if choice.shape is None and not isinstance(value, dict):
        raise DecodeError(f"{context.path}: expected an object, got {type(value).__name__}")
    shape = recognised_shape(value) if choice.shape is None else shape_named(choice.shape)
    if shape is None:
        if task.answer.request.asks_logprobs:
            known = known_keys(value)
            raise DecodeError(f"{context.path}: no list of tokens in it, only {known}", error_type="no_logprobs")
        wires[task.completion_id] = wire.seal({"shape": "other"}, None, value)
        return
    template, tokens = shape.read_tokens(value, context)
    beside = None
    if choice.prompt_logprobs is not None and tokens.get("prompt"):
        beside, tokens = _join_echo(choice, tokens)
    text = wire.seal(template, shape.rebuild(template, tokens), value, ordered=shape.ORDERED)
    wires[task.completion_id] = text if beside is None else wire.join(text, prompt_logprobs.NAME, beside)
    pieces.add_tokens(task.completion_id, tokens)


def _join_echo(choice: Choice, tokens: TokensBySection) -> tuple[str, TokensBySection]:
    """An echoed prompt, which vLLM sends twice: the rows of both if they agree, else the echo's.

    The echo knows the first token, the other one ids and ranks.
    """
    value, template, listed = _read_prompt(choice)
    echoed = tokens["prompt"]
    if not prompt_logprobs.agree(listed, echoed):
        return wire.seal({"shape": "other"}, None, value), tokens
    both = [echo if one is None else one for one, echo in zip(listed, echoed, strict=True)]
    template["echo"] = True
    rebuilt = prompt_logprobs.rebuild(template, {"prompt": both})
    return wire.seal(template, rebuilt, value, ordered=True), {**tokens, "prompt": both}


def _read_prompt(choice: Choice) -> tuple[Any, dict[str, Any], Sequence[Token | None]]:
    """The log-probabilities of the prompt that vLLM sends: the wire's value, the template, the tokens."""
    held = choice.prompt_logprobs
    value = loads(held) if isinstance(held, bytes) else held
    template, tokens = prompt_logprobs.read_tokens(value, ChoiceContext(path=choice.prompt_path))
    return value, template, tokens["prompt"]


def add_what_is_beside(task: DecodingTask, pieces: Pieces, wires: dict[int, str]) -> None:
    """Add a body's layout to the `wire` column, and vLLM's log-probabilities of the prompt, which have rows too."""
    choice, key = task.choice, task.completion_id
    if choice.layout is not None:
        wires[key] = wire.join(wires[key], "layout", wire.as_text(choice.layout))
    if choice.prompt_logprobs is None or pieces.holds(key, "prompt"):
        return
    value, template, listed = _read_prompt(choice)
    tokens = {"prompt": listed}
    text = wire.seal(template, prompt_logprobs.rebuild(template, tokens), value, ordered=True)
    pieces.add_tokens(key, tokens)
    wires[key] = wire.join(wires[key], prompt_logprobs.NAME, text)


def _context_of(task: DecodingTask) -> ChoiceContext:
    body = task.answer.request.body
    prompt = body.get("prompt")
    counted = task.reply.prompt_tokens
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        # Several prompts in one call: their choices follow each other, and usage counts them all.
        each = body.get("n") if isinstance(body.get("n"), int) else 1
        counted = counted if len(prompt) == 1 else None
        prompt = prompt[min(task.choice.index // max(each or 1, 1), len(prompt) - 1)]
    return ChoiceContext(
        path=task.choice.path,
        echo=bool(body.get("echo")),
        prompt=prompt if isinstance(prompt, (str, list)) else None,
        text=task.choice.text,
        prompt_tokens=counted,
        token_path=task.choice.token_path,
    )


def check_empty(task: DecodingTask) -> None:
    """Refuse an answer without tokens, unless the model said nothing and the server says so."""
    choice, path = task.choice, task.choice.path
    if choice.lacks_logprobs:
        state = "absent" if choice.logprobs is msgspec.UNSET else "null"
        raise DecodeError(f"{path}: {state}, though asked for", error_type="no_logprobs")
    single = len(task.reply.choices) == 1
    if choice.text or choice.refusal or choice.tool_calls or (single and task.reply.completion_tokens):
        raise DecodeError(f"{path}: no tokens in it, though the answer is not empty", error_type="no_logprobs")
