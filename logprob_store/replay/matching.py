"""Answers from recorded fixtures, and from nothing else: no network, no cache, no key.

Holds the look-up and, for a miss, the nearest recording and what differs in it. Leaves out reading fixture files
(`fixtures`).
"""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.errors import ReplayMissError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from logprob_store.replay.fixtures import Fixture, Recordings
    from logprob_store.request import Answer, Request
    from logprob_store.transport import Transport

_SHOWN_DIFFERENCES: Final = 4
_EXCERPT: Final = 40
_COMPARED: Final = 2000
_ABSENT: Final = object()


def replay_transport(recordings: Recordings) -> Transport:
    """A transport that answers from recordings; a request without one is a `ReplayMissError`."""

    async def call(request: Request) -> Answer:
        fixture = recordings.get(request.key)
        if fixture is None:
            raise miss(request, recordings)
        return fixture.answer(request)

    return call


def miss(request: Request, recordings: Recordings, *, any_provider: bool = False) -> ReplayMissError:
    """Why nothing answers `request`, with the nearest recording and what differs in it.

    Args:
        request: what was asked.
        recordings: where nothing answers it.
        any_provider: the body alone was looked for, so provider and sample do not count as differences.
    """
    found = _nearest(request, recordings, any_provider=any_provider)
    if found is None:
        return ReplayMissError(request.key, recordings.path, None, [])
    fixture, differences = found
    said = [f"{path}: asked {_short(asked, recorded)}, recorded {_short(recorded, asked)}"
            for path, asked, recorded in differences[:_SHOWN_DIFFERENCES]]  # fmt: skip
    if len(differences) > _SHOWN_DIFFERENCES:
        said.append(f"and {len(differences) - _SHOWN_DIFFERENCES} more")
    return ReplayMissError(request.key, recordings.path, fixture.key, said)


_Difference = tuple[str, Any, Any]


def _nearest(
    request: Request, recordings: Iterable[Fixture], *, any_provider: bool
) -> tuple[Fixture, list[_Difference]] | None:
    best: tuple[int, float] | None = None
    found = None
    # As sent, so that both sides went through JSON once.
    body = msgspec.json.decode(request.content)
    asked = body if any_provider else {"provider": request.provider, "sample_index": request.sample_index, **body}
    for number, fixture in enumerate(recordings):
        if number >= _COMPARED:
            break
        if fixture.endpoint != request.endpoint:
            continue
        recorded = fixture.request
        if not any_provider:
            recorded = {"provider": fixture.provider, "sample_index": fixture.sample_index, **recorded}
        differences = list(_differences(asked, recorded, ""))
        unlike = sum(1 - _likeness(was, now) for _, was, now in differences)
        if best is None or (len(differences), unlike) < best:
            best, found = (len(differences), unlike), (fixture, differences)
    return found


def _differences(asked: Any, recorded: Any, path: str) -> Iterator[_Difference]:
    if isinstance(asked, dict) and isinstance(recorded, dict):
        for name in [*asked, *(name for name in recorded if name not in asked)]:
            below = f"{path}.{name}" if path else name
            yield from _differences(asked.get(name, _ABSENT), recorded.get(name, _ABSENT), below)
    elif isinstance(asked, list) and isinstance(recorded, list) and len(asked) == len(recorded):
        for index, (one, other) in enumerate(zip(asked, recorded, strict=True)):
            yield from _differences(one, other, f"{path}[{index}]")
    elif asked != recorded or isinstance(asked, bool) != isinstance(recorded, bool):
        yield path, asked, recorded


def _likeness(one: Any, other: Any) -> float:
    if isinstance(one, str) and isinstance(other, str):
        return SequenceMatcher(None, one[-1000:], other[-1000:], autojunk=False).quick_ratio()
    return 0.0


def _short(value: Any, beside: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    if isinstance(value, str) and isinstance(beside, str) and len(value) > _EXCERPT:
        same = next(
            (at for at, (one, other) in enumerate(zip(value, beside, strict=False)) if one != other),
            min(len(value), len(beside)),
        )
        start = max(0, same - 10)
        return f"...{value[start : start + _EXCERPT]!a}..." if start else f"{value[:_EXCERPT]!a}..."
    text = ascii(value)
    return text if len(text) <= 2 * _EXCERPT else text[: 2 * _EXCERPT] + "..."
