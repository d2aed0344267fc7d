"""Everything in an answer but the tokens, whatever its format: the answer itself says which it is.

Holds the way to the right reader, by way of `streams` for a recorded stream. Leaves out the readers, which `registry`
lists.
"""

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
    """Everything in an answer but the tokens, whatever its format.

    Raises:
        DecodeError: it is of no known format, damaged, or reports an error.
    """
    reply = choices.read_quickly(answer)  # by far the most: nobody needs to look at their keys
    if reply is not None:
        return reply
    content = without_bom(answer.body)
    listed = _form_of_list(content)
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


def _form_of_list(content: bytes) -> BodyFormat | None:
    """The form of a body that is a list of answers, as some servers (`LISTS`) send for several samples or prompts."""
    if not content.lstrip().startswith(b"["):
        return None
    first = next(iter(loads(content)), None)
    known = first if isinstance(first, dict) else ()
    return next((form for form in BODIES if getattr(form, "LISTS", False) and form.recognises(known)), None)


def merge_stream(content: bytes) -> bytes:
    """One body of a recorded stream: server-sent events, a JSON list of chunks, or a chunk a line.

    Raises:
        DecodeError: it is no stream, of no known format, damaged, or reports an error.
    """
    merged = _merged(without_bom(content))
    if merged is None:
        raise DecodeError(f"no stream of events, list of chunks or chunk a line: {excerpt(content)}")
    return merged


def _merged(content: bytes) -> bytes | None:
    """The body that a stream makes, None if the content is no stream."""
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
    """What a body without choices says is wrong, or that it is of no known format."""
    try:
        choices.read(answer)
    except DecodeError as error:
        if error.error_type == "error_body":
            return error
        return DecodeError(f"{error}; the {answer.request.endpoint} answer has the keys {keys_for_message(keys)}")
    raise AssertionError("a body without choices was read")
