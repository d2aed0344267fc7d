"""Files of fitted numbers beside the store, `STORE/<folder>/<name>.json`: numbers and their provenance, never code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from logprob_store.errors import DiskError, InputError, StoreError
from logprob_store.store.durable_files import make_folder, replace_file

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")

Fitted = TypeVar("Fitted", bound=msgspec.Struct)


@dataclass(frozen=True)
class NumberFiles(Generic[Fitted]):
    """The files of one kind of fitted numbers.

    Args:
        what: what a file holds, in one word.
        folder: their folder in the store.
        kind: the struct that is saved; it has its version in the field `<what>_version`.
        version: the version that is read.
        check: raises a ValueError where the numbers cannot be used.
        made_by: how to make the first one.
        mend: how to make one again, with `{name}` where its name stands.
    """

    what: str
    folder: str
    kind: type[Fitted]
    version: int
    check: Callable[[Fitted], None]
    made_by: str
    mend: str

    def save(self, fitted: Fitted, store: str | Path, name: str) -> Path:
        """Write a file, replacing one of the same name, and return its path."""
        path = self._path(store, name)
        try:
            make_folder(path.parent)
            replace_file(path, msgspec.json.format(msgspec.json.encode(fitted), indent=1) + b"\n")
        except OSError as error:
            raise DiskError(f"the {self.what}", path, error, of_answers=False) from error
        return path

    def load(self, store: str | Path, name: str) -> Fitted:
        """Read a file."""
        path = self._path(store, name)
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            names = self.names(store)
            known = f"there are: {', '.join(names)}" if names else f"none was saved yet; {self.made_by} makes one"
            raise InputError(f"no {self.what} {name!r} in {path.parent}; {known}") from None
        try:
            # Before the rest is read: another version may have other fields.
            version = msgspec.json.decode(raw, type=dict[str, Any]).get(f"{self.what}_version")
            if version != self.version:
                raise StoreError(
                    f"{path} has {self.what} version {version}, this logprob-store reads {self.version}: fit it again"
                )
            fitted = msgspec.json.decode(raw, type=self.kind)
            self.check(fitted)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            raise StoreError(f"{path} is damaged: {error}. {self.mend.format(name=name)}") from error
        return fitted

    def names(self, store: str | Path) -> list[str]:
        """The names of the files beside a store."""
        return sorted(path.stem for path in (Path(store) / self.folder).glob("*.json") if _NAME.fullmatch(path.stem))

    def _path(self, store: str | Path, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{self.what} name {name!r}: use letters, digits, '.', '_' and '-', and no '.' at the beginning"
            )
        return Path(store) / self.folder / f"{name}.json"
