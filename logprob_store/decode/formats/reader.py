"""Reads any answer: finds the format of its body, or of the recorded stream that it is, and has it read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.formats import choices, responses, streams
from logprob_store.decode.formats.apis_without_logprobs import why_a_stream_has_no_logprobs, why_no_logprobs
from logprob_store.decode.formats.body import (
    excerpt,
    keys_for_message,
    loads,
    loads_object,
    raw_object,
    reported_error,
    without_bom,
)
from logprob_store.decode.formats.pieces import StreamState, broken_off
from logprob_store.decode.formats.registry import BODIES, STREAMS
from logprob_store.errors import DecodeError
from logprob_store.reported_errors import find_own_error
from logprob_store.sse import ChoiceEnds

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from logprob_store.decode.formats.base import BodyFormat, Reply, StreamFormat
    from logprob_store.decode.formats.streams import Recording
    from logprob_store.request import Answer


_ERROR: Final = "error"


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
            listed = _format_of_list(content, is_merged=True)
            if listed is not None:
                return listed.read(answer)
    known = loads_object(content) if keys is None else keys
    form = next((form for form in BODIES if form.recognises(known)), None)
    if form is None or (form is responses and not _has_list(known, "output")):
        raise _unknown(answer, known)
    return form.read(answer)


def _has_list(known: Mapping[str, Any], key: str) -> bool:
    """Whether the value under a key, raw or parsed, is not an object: some APIs have one under the same key."""
    value = known.get(key)
    return not (bytes(value).startswith(b"{") if isinstance(value, msgspec.Raw) else isinstance(value, dict))


def _format_of_list(content: bytes, *, is_merged: bool = False) -> BodyFormat | None:
    """The format of a body that is a list of answers, as some servers (`LISTS`) send for several samples or prompts.

    None for a list of the pieces of a stream.
    """
    if not content.lstrip().startswith(b"["):
        return None
    items = [item for item in loads(content) if isinstance(item, dict)]
    known = items[0] if items else ()
    stream = next((stream for stream in STREAMS if stream.recognises(known)), None)
    if stream is not None and len(items) > 1 and not is_merged:
        pieces = [piece for item in items if (piece := stream.describe(item)) is not None]
        if any(not piece.ends for piece in pieces):
            return None
    form = next((form for form in BODIES if form.recognises(known)), None)
    return form if getattr(form, "LISTS", False) else None


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
    recording = streams.split(content)
    if recording is None:
        return None
    keys = list(dict.fromkeys(key for piece in recording.pieces for key in piece))
    form = _format_of_pieces(recording.pieces, keys)
    if form is None:
        return _merged_without_format(recording, keys)
    if len(recording.pieces) == 1 and recording.problem is None:
        only = form.describe(recording.pieces[0])
        if only is None or only.may_be_whole:
            return json.dumps(recording.pieces[0]).encode()  # a whole answer, framed as a stream
    _refuse_failed(recording, form)
    try:
        merged = json.dumps(form.merge(recording.pieces)).encode()
    except RecursionError:
        raise DecodeError("the stream is nested too deeply") from None
    if _has_open_choice(recording) or not (recording.is_done or _has_ended(recording, form)):
        raise broken_off("the stream was cut off before its end", form.text_of(recording.pieces))
    return merged


def _format_of_pieces(pieces: Sequence[Mapping[str, Any]], keys: Collection[str]) -> StreamFormat | None:
    """The format of a stream: the first that knows its keys and a piece; else the first that knows either."""
    known = [form for form in STREAMS if form.recognises(keys)]
    for forms in (known, () if known else STREAMS):
        found = next((form for form in forms if any(form.describe(piece) for piece in pieces)), None)
        if found is not None:
            return found
    return known[0] if known else None


def _has_open_choice(recording: Recording) -> bool:
    """Whether a choice has begun and not ended, though `[DONE]` may stand behind it."""
    ends = ChoiceEnds()
    for piece in recording.pieces:
        ends.add(piece)
    return ends.is_open


def _has_ended(recording: Recording, form: StreamFormat) -> bool:
    """Whether every answer that has begun has ended, by what its pieces say."""
    state = StreamState()
    for piece in filter(None, map(form.describe, recording.pieces)):
        state.add(piece)
    return state.has_ended or not state.has_begun


def _merged_without_format(recording: Recording, keys: Sequence[str]) -> bytes:
    pieces = recording.pieces
    if len(pieces) == 1 and recording.problem is None and any(form.recognises(keys) for form in BODIES):
        return json.dumps(pieces[0]).encode()
    error = next(filter(None, map(_error_in, pieces)), None)
    if error is not None:
        raise reported_error(error)
    if recording.problem is not None:
        raise DecodeError(recording.problem)
    sentence = why_a_stream_has_no_logprobs(pieces)
    if sentence is not None:
        raise DecodeError(sentence, error_type="no_logprobs")
    if not pieces:
        raise DecodeError("a stream without any answer: none of its events is an object")
    raise DecodeError(f"a stream of no known format: its {len(pieces)} pieces have {keys_for_message(keys)}")


def _error_in(piece: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The error that a piece reports, wrapped in `error` or not; None for any other piece."""
    is_bare = isinstance(piece.get("message"), str) and "code" in piece
    return find_own_error(piece) or (piece if is_bare else None)


def _refuse_failed(recording: Recording, form: StreamFormat) -> None:
    """Raise DecodeError for a stream that reports an error, or whose recording is damaged."""
    pieces = recording.pieces
    error = next(filter(None, map(_error_in, pieces)), None)
    if error is not None:
        raise broken_off(str(reported_error(error)), form.text_of(pieces), error_type="error_body")
    if recording.problem is not None:
        raise broken_off(recording.problem, form.text_of(pieces))


def _unknown(answer: Answer, keys: Collection[str]) -> DecodeError:
    """The error that a body without choices reports, or that its format is not known."""
    body = loads_object(answer.body)
    if "code" in body and isinstance(body.get("message"), str) and not body.get("error"):
        return reported_error(body)  # an error that is not wrapped in `error`
    try:
        choices.read(answer)
    except DecodeError as error:
        if error.error_type == "error_body":
            return error
        sentence = why_no_logprobs(body)
        if sentence is not None:
            return DecodeError(sentence, error_type="no_logprobs")
        return DecodeError(f"{error}; the {answer.request.endpoint} answer has {keys_for_message(keys)}")
    raise AssertionError("a body without choices was read")
