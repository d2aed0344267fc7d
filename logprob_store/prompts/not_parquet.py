"""What a file is that should be Parquet and is not, by its first bytes, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_READ_BYTES: Final = 1024
_UNPACK: Final = "unpack it, and name what is in it"

_BEGINNINGS: Final = (
    (
        b"version https://git-lfs.github.com/spec/",
        "it is a Git LFS pointer, which stands for the file: `git lfs pull` in its repository fetches the file itself",
    ),
    (b"/annex/objects/", "it is a git-annex pointer: `git annex get` in its repository fetches the file itself"),
    (b"\x1f\x8b", f"it is compressed with gzip: {_UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"it is compressed with zstd: {_UNPACK}"),
    (b"BZh", f"it is compressed with bzip2: {_UNPACK}"),
    (b"PK\x03\x04", f"it is a zip file: {_UNPACK}"),
    (b"PARE", "its footer is encrypted, and prompts are read without keys: write it again without encryption"),
    (b"ARROW1", "it is an Arrow IPC (Feather) file: `pl.read_ipc(PATH).write_parquet(...)` in Python converts it"),
    (b"ORC", "it is an ORC file: `pyarrow.orc.read_table` and `pyarrow.parquet.write_table` convert it"),
    (b"Obj\x01", "it is an Avro file: `pl.read_avro(PATH).write_parquet(...)` in Python converts it"),
    (b"SQLite format 3\0", "it is an SQLite database: select the prompts and write them as Parquet"),
    (b"<", "it is a web page or XML, such as the login page of a download: fetch the file itself"),
)

_SPREADSHEETS: Final = frozenset({".xlsx", ".xlsm", ".xls", ".ods"})


def what_it_is(path: Path) -> str | None:
    """What a file is and how to get Parquet from it; None where its first bytes do not say.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.parquet"
    ...     _ = path.write_text("<html>", encoding="utf-8")
    ...     what_it_is(path)
    'it is a web page or XML, such as the login page of a download: fetch the file itself'
    """
    try:
        with path.open("rb") as file:
            start = file.read(_READ_BYTES)
    except OSError:
        return None
    if not start:
        return "it is empty: write it again"
    if path.suffix.lower() in _SPREADSHEETS:
        return "it is a spreadsheet: save the sheet with the prompts as CSV"
    for beginning, what in _BEGINNINGS:
        if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(beginning):
            return what
    if path.suffix.lower() == ".json":
        return "it is a .json file: `pl.read_json(PATH).write_parquet(...)` in Python converts it"
    return None
