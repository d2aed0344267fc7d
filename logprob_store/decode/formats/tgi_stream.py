"""Streams of a token a piece: TGI's `/generate_stream`, and those of DeepInfra, DJL's LMI containers and LightLLM.

A piece is `{"token": {id, text, logprob, special}, "top_tokens": [...], "generated_text": null, "details": null}`, and
the last one has the whole text and the details. LMI says `log_prob` for `logprob`, and leaves the nulls out. LightLLM
ends with `"finished": true`, gives no text, and counts tokens in each piece; the counts become those of the details.
The pieces become a body that `tgi` reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.body import object_or_empty
from logprob_store.decode.formats.pieces import Piece, broken_off, text_under, value_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

BODY: Final = "tgi"
_COUNTS: Final = {"prompt_tokens": "prompt_tokens", "count_output_tokens": "generated_tokens"}
"""Counts that LightLLM sends with each token, and their keys in the details."""

_ERROR: Final = "error"
_OWN_KEYS: Final = frozenset({"top_tokens", "generated_text", "details", "finished", "finish_reason"})
"""Keys beside `token`, of which a piece has one or more, unless it has a token alone."""


def recognises(keys: Collection[str]) -> bool:
    """Whether pieces with these keys are those of such a stream."""
    return "token" in keys and "choices" not in keys


def describe(held: Mapping[str, Any]) -> Piece | None:
    """What an object says about its stream; None if it is no piece of one."""
    if "token" not in held or "choices" in held:
        return None
    if _OWN_KEYS.isdisjoint(held) and not isinstance(value_of(held, "token"), dict):
        return None
    number = value_of(held, "index")
    one = frozenset({0})
    return Piece(adds=one, ends=one if _ends(held) else frozenset(), number=number if type(number) is int else None)


def _ends(held: Mapping[str, Any]) -> bool:
    """Whether a piece ends its stream."""
    return (
        isinstance(value_of(held, "generated_text"), str)
        or isinstance(value_of(held, "details"), dict)
        or value_of(held, "finished") is True
        or text_under(held, "finish_reason") is not None
    )


def _without_counts(token: Any) -> Any:
    return {key: value for key, value in token.items() if key not in _COUNTS} if isinstance(token, dict) else token


def text_of(pieces: Sequence[Mapping[str, Any]]) -> str:
    """The text that the pieces brought, without special tokens."""
    tokens = [piece["token"] for piece in pieces if isinstance(piece.get("token"), dict)]
    return "".join(token["text"] for token in tokens if isinstance(token.get("text"), str) and not token.get("special"))


def merge(pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One body made of the pieces of a stream.

    Raises:
        DecodeError: the server reports an error.
    """
    pieces = [piece for piece in pieces if "token" in piece or not _OWN_KEYS.isdisjoint(piece)] or pieces
    last = pieces[-1]
    details = dict(object_or_empty(last.get("details")))
    if last.get("finish_reason") is not None:
        details["finish_reason"] = last["finish_reason"]
    if details.get("finish_reason") == _ERROR:
        raise broken_off("the server ended the stream with an error", text_of(pieces), error_type="error_body")
    pieces = [piece for piece in pieces if piece.get("token") is not None or not _ends(piece)]
    tokens = [piece.get("token") for piece in pieces]
    for token in map(object_or_empty, tokens):
        details |= {name: token[key] for key, name in _COUNTS.items() if key in token}
    details["tokens"] = [_without_counts(token) for token in tokens]
    if any(piece.get("top_tokens") is not None for piece in pieces):
        details["top_tokens"] = [piece.get("top_tokens") for piece in pieces]
    text = last.get("generated_text")
    return {"generated_text": text if isinstance(text, str) else text_of(pieces), "details": details}
