"""Whether the prompts files of a run are those that it began with, or these with rows added at their end.

A row's place over all files is its identity (`prompt_index`), so the rows that a run has read have to be the first ones
still. Files with the same bytes have the same rows; of others the manifest has a digest of the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from logprob_store.counted import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.store.manifest import Input, Manifest


class PromptRows(Protocol):
    """The rows of the prompts files, as far as a job reads them."""

    def types(self) -> dict[str, str]:
        """The type of each column, by its name."""

    def digests_after(self, name: str, rows: Sequence[int]) -> list[str]:
        """The digest of the first so many rows of a file, for each number of rows, in ascending order."""


class Compared(NamedTuple):
    """The inputs as the manifest is to have them, the types of their columns, and what contradicts the run."""

    inputs: list[Input]
    columns: dict[str, str]
    differences: list[str]


def with_digests(inputs: Sequence[Input], rows: PromptRows | None) -> list[Input]:
    """The inputs of a new run, with the digests of their rows."""
    return [_with_digest(item, rows) for item in inputs]


def compare_inputs(manifest: Manifest, inputs: Sequence[Input], rows: PromptRows | None, *, samples: int) -> Compared:
    """Compare the prompts files with those that a run began with.

    Args:
        manifest: of the run.
        inputs: the files as they are now, sorted by name.
        rows: of these files; None where only equal files will do.
        samples: the most calls that a prompt has.
    """
    before = manifest.inputs
    if [_identity(item) for item in before] == [_identity(item) for item in inputs]:
        return Compared(before, manifest.columns, [])
    in_place = [item.name for item in inputs[: len(before)]] == [item.name for item in before]
    if rows is None or not in_place or not all(item.rows_digest for item in before):
        return Compared(before, manifest.columns, _differences_of_files(before, inputs))
    differences = _differences_of_types(manifest.columns, columns := rows.types())
    if samples != manifest.samples:
        differences.append(f"a prompt has up to {samples} continuations, had up to {manifest.samples}")
    noted = []
    for number, (was, now) in enumerate(zip(before, inputs, strict=False)):
        grown = _grown(was, now, rows, is_last=number == len(before) - 1)
        noted.append(grown or was)
        if grown is None:
            differences.append(_other_content(was, now))
    return Compared(noted + with_digests(inputs[len(before) :], rows), columns, differences)


def _grown(was: Input, now: Input, rows: PromptRows, *, is_last: bool) -> Input | None:
    """The file with its new digest, if its first rows are those that it had; only the last file may have more."""
    if _identity(was) == _identity(now):
        return was
    if now.rows < was.rows or (now.rows > was.rows and not is_last):
        return None
    then, whole = rows.digests_after(now.name, [was.rows, now.rows])
    return msgspec.structs.replace(now, rows_digest=whole) if then == was.rows_digest else None


def _with_digest(item: Input, rows: PromptRows | None) -> Input:
    if rows is None:
        return item
    (digest,) = rows.digests_after(item.name, [item.rows])
    return msgspec.structs.replace(item, rows_digest=digest)


def _differences_of_files(before: Sequence[Input], inputs: Sequence[Input]) -> list[str]:
    """Each file that is gone, new or other than it was; new ones between others would move the rows of these."""
    old, now = ({item.name: item for item in items} for items in (before, inputs))
    differences = []
    for name in sorted(old.keys() | now.keys()):
        if name not in now:
            differences.append(f"prompts file {name} is gone")
        elif name not in old:
            differences.append(f"prompts file {name} is new")
        elif _identity(old[name]) != _identity(now[name]):
            differences.append(_other_content(old[name], now[name]))
    return differences


def _differences_of_types(before: dict[str, str], now: dict[str, str]) -> list[str]:
    return [
        f"column {name} is {now.get(name)}, was {before.get(name)}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]


def _other_content(was: Input, now: Input) -> str:
    rows = f"{counted(now.rows, 'row')}, was {was.rows}"
    if was.rows_digest and now.rows > was.rows:
        rows += ", of which some are not the same: rows may be added at the end of the last file"
    return f"prompts file {now.name} has other content ({rows})"


def _identity(item: Input) -> tuple[str, int, int, str]:
    return item.name, item.rows, item.size, item.digest
