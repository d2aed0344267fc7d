"""The list of wire formats, and what is looked up in it. `base` says how to add one.

Leaves out how the format of an answer is found (`reader`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats import (
    ai21,
    bare_choice,
    chat,
    chat_stream,
    choices,
    cohere,
    cohere_stream,
    dashscope,
    decisions,
    gemini,
    legacy,
    lightllm,
    llamacpp,
    ollama,
    prompt_logprobs,
    responses,
    responses_stream,
    sglang,
    tgi,
    tgi_stream,
    transcription,
    transcription_stream,
    watsonx,
)
from logprob_store.decode.formats.base import (
    BodyFormat,
    BodyWithLayout,
    LogprobsShape,
    NamedShape,
    RecognisableShape,
    StreamFormat,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logprob_store.decode.formats.base import TokensBySection, WireFormat

FORMATS: Final[tuple[WireFormat, ...]] = (
    choices,  # bodies of chat completions and completions
    chat_stream,  # streams of both
    bare_choice,
    dashscope,
    responses,
    responses_stream,
    decisions,
    llamacpp,
    ollama,
    sglang,
    lightllm,
    tgi,
    tgi_stream,
    gemini,
    watsonx,
    ai21,
    cohere,
    cohere_stream,
    transcription,
    transcription_stream,
    chat,
    legacy,
    prompt_logprobs,
)
"""All formats. Of several that recognise a value, the first one reads it."""

BODIES: Final = tuple(form for form in FORMATS if isinstance(form, BodyFormat))
STREAMS: Final = tuple(form for form in FORMATS if isinstance(form, StreamFormat))
SHAPES: Final = tuple(form for form in FORMATS if isinstance(form, RecognisableShape))

PROMPT_KEYS: Final[Mapping[str, str]] = dict(
    sorted((key, form.NAME) for form in BODIES if (key := getattr(form, "PROMPT_KEY", None)) is not None)
)
"""The key that holds the prompt in a request body, to the NAME of the format that answers it; sorted by key."""

_READ_BY_NAME: Final = {form.NAME: form for form in FORMATS if isinstance(form, LogprobsShape)}
_REBUILT_BY_NAME: Final = {form.NAME: form for form in FORMATS if isinstance(form, NamedShape)}
_LAYOUT_BY_NAME: Final = {form.NAME: form for form in BODIES if isinstance(form, BodyWithLayout)}


def shape_named(name: str) -> LogprobsShape | None:
    """The shape with this NAME."""
    return _READ_BY_NAME.get(name)


def recognised_shape(value: Mapping[str, Any]) -> RecognisableShape | None:
    """The shape that recognises an object of logprobs."""
    return next((shape for shape in SHAPES if shape.recognises_logprobs(value)), None)


def rebuild(template: Mapping[str, Any], tokens: TokensBySection) -> Any:
    """The wire's value before the patch, from its template and tokens; None for a shape without tokens."""
    shape = _REBUILT_BY_NAME.get(template["shape"])
    return None if shape is None else shape.rebuild(template, tokens)


def restore(layout: Mapping[str, Any], value: Any) -> Any:
    """The wire's value from a value in the chat shape and the layout that the reader of its body gave."""
    return _LAYOUT_BY_NAME[layout["format"]].restore(layout, value)
