"""A transport that answers from recordings by request key; for a miss, the nearest recording and its differences."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.errors import CallError, ReplayMissError, RetryableError
from logprob_store.replay.fixtures import Recordings
from logprob_store.transport.body_reader import SUCCESS
from logprob_store.transport.refusals import error_of_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from logprob_store.errors import LogprobStoreError
    from logprob_store.replay.fixtures import Fixture
    from logprob_store.request import Answer, Request

_SHOWN_DIFFERENCES: Final = 4
_EXCERPT_CHARACTERS: Final = 40
_MOST_COMPARED: Final = 2000
_COMPARED_CHARACTERS: Final = 1000
_ABSENT: Final = object()


class ReplayTransport:
    """A transport that answers from recordings and raises `ReplayMissError` for a request without one.

    A recorded refusal is the error that it was, but for one thing: it is the call's outcome, for another attempt would
    get the same.

    Args:
        path: the file or folder of recordings.

    Raises:
        InputError: they cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._recordings = Recordings(path)

    async def __call__(self, request: Request) -> Answer:
        """The recorded answer to a request."""
        fixture = self._recordings.get(request.key)
        if fixture is None:
            raise miss_error(request, self._recordings)
        if fixture.status not in SUCCESS:
            raise _refusal(fixture)
        return fixture.answer(request)


def _refusal(fixture: Fixture) -> LogprobStoreError:
    error = error_of_status(fixture.status, fixture.headers, fixture.body, endpoint=fixture.endpoint)
    if isinstance(error, RetryableError):
        return CallError(str(error), error_type=error.error_type, status=error.status)
    return error


def miss_error(request: Request, recordings: Recordings, *, any_provider: bool = False) -> ReplayMissError:
    """The error for a request without a recording; it names the nearest recording and what differs.

    Args:
        request: the request.
        recordings: the recordings, none of which answers it.
        any_provider: compare only the bodies; provider and sample do not count as differences.
    """
    found = _nearest(request, recordings, any_provider=any_provider)
    if found is None:
        return ReplayMissError(request.key, recordings.path, None, [], advice=recordings.advice)
    fixture, differences = found
    lines = [
        f"{path}: asked {_excerpt(asked, recorded)}, recorded {_excerpt(recorded, asked)}"
        for path, asked, recorded in differences[:_SHOWN_DIFFERENCES]
    ]
    if len(differences) > _SHOWN_DIFFERENCES:
        lines.append(f"and {len(differences) - _SHOWN_DIFFERENCES} more")
    return ReplayMissError(request.key, recordings.path, fixture.key, lines, advice=recordings.advice)


_Difference = tuple[str, Any, Any]


def _nearest(
    request: Request, recordings: Iterable[Fixture], *, any_provider: bool
) -> tuple[Fixture, list[_Difference]] | None:
    """The recording for the same endpoint with the fewest differences; of several, the one whose texts are most alike.

    Only the first 2000 recordings are compared.
    """
    best: tuple[int, float] | None = None
    nearest = None
    # The request as it was sent, because the recorded one has been through JSON too.
    body = msgspec.json.decode(request.content)
    asked = body if any_provider else {"provider": request.provider, "sample_index": request.sample_index, **body}
    for number, fixture in enumerate(recordings):
        if number >= _MOST_COMPARED:
            break
        if fixture.endpoint != request.endpoint:
            continue
        recorded = fixture.request
        if not any_provider:
            recorded = {"provider": fixture.provider, "sample_index": fixture.sample_index, **recorded}
        differences = list(_differences(asked, recorded, ""))
        distance = sum(1 - _similarity(one, other) for _, one, other in differences)
        if best is None or (len(differences), distance) < best:
            best, nearest = (len(differences), distance), (fixture, differences)
    return nearest


def _differences(asked: Any, recorded: Any, path: str) -> Iterator[_Difference]:
    """The leaves that differ between two JSON values, each with its path, such as `messages[0].content`."""
    if isinstance(asked, dict) and isinstance(recorded, dict):
        for name in [*asked, *(name for name in recorded if name not in asked)]:
            below = f"{path}.{name}" if path else name
            yield from _differences(asked.get(name, _ABSENT), recorded.get(name, _ABSENT), below)
    elif isinstance(asked, list) and isinstance(recorded, list) and len(asked) == len(recorded):
        for index, (one, other) in enumerate(zip(asked, recorded, strict=True)):
            yield from _differences(one, other, f"{path}[{index}]")
    elif asked != recorded or isinstance(asked, bool) != isinstance(recorded, bool):
        yield path, asked, recorded


def _similarity(one: Any, other: Any) -> float:
    """The similarity of the last 1000 characters of two texts, from 0 to 1; 0 for other values."""
    if not (isinstance(one, str) and isinstance(other, str)):
        return 0.0
    ends = one[-_COMPARED_CHARACTERS:], other[-_COMPARED_CHARACTERS:]
    return SequenceMatcher(None, *ends, autojunk=False).quick_ratio()


def _excerpt(value: Any, other: Any) -> str:
    """A value as the error shows it: of a long text the part around its first difference from `other`."""
    if value is _ABSENT:
        return "nothing"
    length = _EXCERPT_CHARACTERS
    if isinstance(value, str) and isinstance(other, str) and len(value) > length:
        first_difference = next(
            (index for index, (mine, theirs) in enumerate(zip(value, other, strict=False)) if mine != theirs),
            min(len(value), len(other)),
        )
        start = max(0, first_difference - 10)
        return f"...{value[start : start + length]!a}..." if start else f"{value[:length]!a}..."
    text = ascii(value)
    return text if len(text) <= 2 * length else text[: 2 * length] + "..."
