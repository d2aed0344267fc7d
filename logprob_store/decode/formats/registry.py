"""The wire formats, in three tables: `BODIES`, `SHAPES` and `STREAMS`. `base` says how to add one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats import (
    chat,
    chat_stream,
    choices,
    gemini,
    legacy,
    llamacpp,
    ollama,
    prompt_logprobs,
    responses,
    responses_stream,
    sglang,
    tgi,
)
from logprob_store.decode.formats.base import BodyWithLayout, LogprobsShape, NamedShape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logprob_store.decode.formats.base import BodyFormat, RecognisableShape, StreamFormat, TokensBySection

BODIES: Final[tuple[BodyFormat, ...]] = (
    choices,  # chat completions, completions
    responses,
    llamacpp,
    ollama,
    sglang,
    tgi,
    gemini,
)
"""The first that recognises a body's keys reads it."""

SHAPES: Final[tuple[RecognisableShape, ...]] = (
    chat,
    legacy,
)
"""The first that recognises an object of logprobs reads it."""

STREAMS: Final[tuple[StreamFormat, ...]] = (
    chat_stream,  # chat completions, completions
    responses_stream,
    llamacpp,
    ollama,
)
"""The first that recognises a stream's pieces makes a body of them."""

_SHAPES: Final = (*SHAPES, *(form for form in BODIES if isinstance(form, LogprobsShape)))
_SHAPE_BY_NAME: Final[Mapping[str, LogprobsShape]] = {shape.NAME: shape for shape in _SHAPES}
_REBUILT_BY_NAME: Final[Mapping[str, NamedShape]] = {shape.NAME: shape for shape in (*_SHAPES, prompt_logprobs)}
_LAYOUT_BY_NAME: Final[Mapping[str, BodyWithLayout]] = {
    form.NAME: form for form in BODIES if isinstance(form, BodyWithLayout)
}


def shape_named(name: str) -> LogprobsShape | None:
    """The shape with this NAME."""
    return _SHAPE_BY_NAME.get(name)


def recognised_shape(value: Mapping[str, Any]) -> RecognisableShape | None:
    """The shape that recognises an object of logprobs."""
    return next((shape for shape in SHAPES if shape.recognises(value)), None)


def rebuild(template: Mapping[str, Any], tokens: TokensBySection) -> Any:
    """The wire's value before the patch, from its template and tokens; None for a shape without tokens."""
    shape = _REBUILT_BY_NAME.get(template["shape"])
    return None if shape is None else shape.rebuild(template, tokens)


def restore(layout: Mapping[str, Any], value: Any) -> Any:
    """The wire's value from a value in the chat shape and the layout that the reader of its body gave."""
    return _LAYOUT_BY_NAME[layout["format"]].restore(layout, value)
