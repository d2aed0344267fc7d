"""Reads any answer: finds the format of its body, or of the recorded stream that it is, and has it read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from logprob_store.decode.formats import choices, streams
from logprob_store.decode.formats.body import (
    excerpt,
    keys_for_message,
    loads,
    loads_object,
    raw_object,
    reported_error,
    without_bom,
)
from logprob_store.decode.formats.registry import BODIES, STREAMS
from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Collection

    from logprob_store.decode.formats.base import BodyFormat, Reply
    from logprob_store.request import Answer


def read_body(answer: Answer) -> Reply:
    """Read everything in an answer but the tokens, whatever its format.

    Raises:
        DecodeError: the format is not known, the body is damaged, or it reports an error.
    """
    reply = choices.try_read(answer)  # most bodies by far, read without a look at the keys
    if reply is not None:
        return reply
    content = without_bom(answer.body)
    listed = _format_of_list(content)
    if listed is not None:
        return listed.read(answer)
    keys = raw_object(content)
    if keys is None or choices.is_chunk(keys):
        merged = _merged(content)
        if merged is not None:
            answer, content, keys = replace(answer, body=merged), merged, raw_object(merged)
    known = loads_object(content) if keys is None else keys
    form = next((form for form in BODIES if form.recognises(known)), None)
    if form is None:
        raise _unknown(answer, known)
    return form.read(answer)


def _format_of_list(content: bytes) -> BodyFormat | None:
    """The format of a body that is a list of answers, as some servers (`LISTS`) send for several samples or prompts."""
    if not content.lstrip().startswith(b"["):
        return None
    first = next(iter(loads(content)), None)
    known = first if isinstance(first, dict) else ()
    return next((form for form in BODIES if getattr(form, "LISTS", False) and form.recognises(known)), None)


def merge_stream(content: bytes) -> bytes:
    """One body made of a recorded stream: server-sent events, a JSON list of chunks, or one chunk a line.

    Raises:
        DecodeError: it is no stream, its format is not known, it is damaged, or it reports an error.
    """
    merged = _merged(without_bom(content))
    if merged is None:
        raise DecodeError(f"no stream of events, list of chunks or chunk a line: {excerpt(content)}")
    return merged


def _merged(content: bytes) -> bytes | None:
    """The body made of a stream; None if the content is no stream."""
    pieces = streams.split(content)
    if pieces is None:
        return None
    keys = list(dict.fromkeys(key for piece in pieces for key in piece))
    form = next((form for form in STREAMS if form.recognises(keys)), None)
    if form is None:
        error = next((piece["error"] for piece in pieces if piece.get("error")), None)
        if error is not None:
            raise reported_error(error)
        raise DecodeError(
            f"a stream of no known format: its {len(pieces)} pieces have the keys {keys_for_message(keys)}"
        )
    try:
        return json.dumps(form.merge(pieces)).encode()
    except RecursionError:
        raise DecodeError("the stream is nested too deeply") from None


def _unknown(answer: Answer, keys: Collection[str]) -> DecodeError:
    """The error that a body without choices reports, or that its format is not known."""
    try:
        choices.read(answer)
    except DecodeError as error:
        if error.error_type == "error_body":
            return error
        return DecodeError(f"{error}; the {answer.request.endpoint} answer has the keys {keys_for_message(keys)}")
    raise AssertionError("a body without choices was read")
