"""The search for prompt files: what a file, a folder or a glob matches, with links followed.

Nothing that could hold prompts is left out silently: a folder that cannot be read, a link to nothing and a link to a
folder above it are errors that name it. pathlib's own search passes over all three, and over linked folders. A store
among the prompts is passed over: its Parquet is what came of them.
"""

from __future__ import annotations

import fnmatch
import re
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from logprob_store.errors import PromptsError
from logprob_store.prompts.text_tables import is_text_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_GLOB_CHARACTER: Final = re.compile(r"[*?\[]")
_PARTITION: Final = re.compile(r"[^=]+=.*")

_FolderId = tuple[int, int]  # device and inode


def find_files(pattern: Path, base: Path) -> tuple[Path, set[Path]]:
    """The root below which all matches lie, and the files that the pattern matches.

    Args:
        pattern: a file; a folder, which means every `*.parquet` below it, or every CSV and JSON Lines file where there
            is none; or a glob (`**` is any depth).
        base: the folder that a relative pattern starts from.

    Raises:
        PromptsError: a match, or a folder on the way, cannot be read.
        ValueError: `**` is only a part of a name.
    """
    literal = base / pattern
    if literal.is_file():
        fixed, found = pattern.parts[:-1], [literal]
    elif literal.is_dir():
        fixed, found = pattern.parts, [literal]
    elif literal.is_symlink() or literal.exists():
        raise _no_file_error(literal)
    else:
        fixed = tuple(takewhile(lambda part: not _GLOB_CHARACTER.search(part), pattern.parts))
        rest = pattern.parts[len(fixed) :]
        if any("**" in part and part != "**" for part in rest):
            raise ValueError("'**' can only be a whole part of a path")
        found = list(_glob(base.joinpath(*fixed), rest)) if rest else []
    top = base.joinpath(*fixed)
    # Partition folders that the pattern spells out are part of the name, so that their columns are known too.
    root = base.joinpath(*takewhile(lambda part: not _PARTITION.fullmatch(part), fixed))
    files = set()
    for path in found:
        if path != literal and any(map(is_hidden, path.relative_to(top).parts)):
            continue
        if path.is_dir():
            below = set(_all_below(path))
            files |= {file for file in below if file.name.endswith(".parquet")} or set(filter(is_text_table, below))
        else:
            files.add(path)
    for file in files:
        if not file.is_file():
            raise _no_file_error(file)
    return root, {root / file.relative_to(root) for file in files}


def is_hidden(part: str) -> bool:
    """Whether a search passes over a name: `.x` and `_x`, but not the partition `_key=value`.

    >>> is_hidden("_SUCCESS"), is_hidden("_day=1")
    (True, False)
    """
    return part.startswith(".") or (part.startswith("_") and "=" not in part)


def _glob(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """The paths below a folder that match the parts of a glob."""
    if not parts:
        yield folder
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _glob_at_any_depth(folder, rest)
    elif _GLOB_CHARACTER.search(part):
        for below in _entries(folder, hidden=part.startswith((".", "_"))):
            if fnmatch.fnmatchcase(below.name, part):
                yield from _glob_in(below, rest)
    elif (folder / part).exists() or (folder / part).is_symlink():
        yield from _glob(folder / part, rest)


def _glob_in(path: Path, parts: Sequence[str]) -> Iterator[Path]:
    """The path if no part is left, else what matches below it, if it is a folder."""
    if parts and not path.is_dir():
        _check_link(path)
    else:
        yield from _glob(path, parts)


def _glob_at_any_depth(folder: Path, parts: Sequence[str], above: frozenset[_FolderId] = frozenset()) -> Iterator[Path]:
    yield from _glob(folder, parts)
    if not parts:
        return  # the folder stands for all that is below it
    above = _with_folder(folder, above)
    for below in _entries(folder):
        if below.is_dir():
            yield from _glob_at_any_depth(below, parts, above)
        else:
            _check_link(below)


def _all_below(folder: Path, above: frozenset[_FolderId] = frozenset()) -> Iterator[Path]:
    """Everything below a folder but folders and hidden names."""
    above = _with_folder(folder, above)
    for path in _entries(folder):
        if path.is_dir():
            yield from _all_below(path, above)
        else:
            _check_link(path)
            yield path


def _entries(folder: Path, *, hidden: bool = False) -> list[Path]:
    """The names in a folder that are no store; none if it is no folder.

    Raises:
        PromptsError: the folder cannot be read.
    """
    try:
        listed = [path for path in sorted(folder.iterdir()) if hidden or not is_hidden(path.name)]
        return [path for path in listed if not _is_store(path)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise PromptsError(
            f"{folder} cannot be read ({error.strerror}), so it is not known whether prompts are in it. Allow reading "
            "it, or narrow the path of the prompts."
        ) from error


def _is_store(folder: Path) -> bool:
    """Whether a folder is a store: it has the manifest of a run, or a copy of one."""
    runs = folder / "runs"
    return runs.is_dir() and any(runs.glob("run=*/run.json*"))


def _with_folder(folder: Path, above: frozenset[_FolderId]) -> frozenset[_FolderId]:
    """The folders on the way down to and with this one; a search begins with all folders above the first.

    Raises:
        PromptsError: the folder is one of them, so that the way has no end.
    """
    parents = folder.resolve().parents if not above else []
    above = above or frozenset(map(_folder_id, parents))
    if (own := _folder_id(folder)) in above:
        raise PromptsError(
            f"{folder} is reached by a link to a folder above it, so that the search for prompts would have no end. "
            "Remove the link, or narrow the path of the prompts."
        )
    return above | {own}


def _folder_id(folder: Path) -> _FolderId:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _check_link(path: Path) -> None:
    """Refuse a link to nothing: it may stand for a folder of prompts, whatever its name."""
    if path.is_symlink() and not path.exists():
        raise _no_file_error(path)


def _no_file_error(path: Path) -> PromptsError:
    if path.is_symlink() and not path.exists():
        why = f"is a link to {path.readlink()}, which is not there: fetch or mount it (git annex get, dvc pull)"
    else:
        why = "is neither a file nor a folder"
    return PromptsError(f"{path} {why}. Remove it, or narrow the path of the prompts.")
