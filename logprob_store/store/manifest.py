"""A run's manifest, `runs/run=<run>/run.json`: what is committed, and nothing else is true.

Holds its shape, reading it and replacing it. Leaves out the parts it lists.
"""

from __future__ import annotations

import os
import zlib
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import msgspec

from logprob_store.errors import SchemaVersionError, StoreError
from logprob_store.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from pathlib import Path


class PartFile(msgspec.Struct, forbid_unknown_fields=True):
    """One Parquet file of a part; `crc32` is of its bytes."""

    rows: int
    size: int
    crc32: int


class Part(msgspec.Struct, forbid_unknown_fields=True):
    """What one commit added: files by table, all named `<name>.parquet`."""

    name: str
    files: dict[str, PartFile]


class Input(msgspec.Struct, forbid_unknown_fields=True):
    """One prompts file, and what identifies its content."""

    name: str
    rows: int
    size: int
    digest: str


class Counts(msgspec.Struct):
    """What the run did, summed over all its sessions."""

    prompts: int = 0
    completions: int = 0
    tokens: int = 0
    alternatives: int = 0
    failures: int = 0
    flagged: int = 0
    chosen_missing: int = 0
    text_differs: int = 0
    lossy_bytes: int = 0
    from_api: int = 0
    from_cache: int = 0
    from_fixtures: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Spent(msgspec.Struct):
    """What the run's calls took over all its sessions, and what that costs at the job's last prices.

    Failed calls and lost answers count too, these at most; `usd` is None without prices.
    """

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = None

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers."""
        return self.prompt_tokens + self.completion_tokens


class SessionRecord(msgspec.Struct):
    """One session of a run: when, and how it ended.

    `state` is `running`, `finished`, `stopped`, `interrupted` or `crashed`; of one that crashed it is known from the
    next session on. `reason` is the class of failure that stopped it, `message` what was said about it. `calls` were
    made in it; `verdict` has its seconds by what held it up (`limit_s`, `server_s`, `outage_s`, `machine_s`).
    """

    started_at: datetime
    ended_at: datetime | None = None
    state: str = "running"
    reason: str | None = None
    message: str | None = None
    calls: int = 0
    verdict: dict[str, float] = {}


MOST_SESSIONS: Final = 100
"""A manifest keeps the records of so many sessions, the newest: it is written anew with each part."""


class Manifest(msgspec.Struct, forbid_unknown_fields=True):
    """A run: which job made it from which prompts, how far it is, and the parts that hold its rows.

    `settled` lists the calls (by `schema.call_number`) that have an outcome, a completion or a
    failure row, as half-open intervals; `prompts_read` is how many prompts have a row in the prompts table. Where
    prompts have candidates, `samples` is the most that any has, and the numbers that a prompt with fewer leaves free
    are settled with its row, so that the intervals stay few; `absent` counts them. `spent` is as of the last commit:
    `calls.log` beside the manifest knows the calls since. `failed` counts the open failures by class, as of the end of
    the last session that came to an end.
    """

    run: str
    run_id: str
    job_name: str
    job: dict[str, Any]
    inputs: list[Input]
    samples: int
    created_at: datetime
    updated_at: datetime
    software: str
    schema_version: int = SCHEMA_VERSION
    state: str = "running"
    prompts_read: int = 0
    settled: list[tuple[int, int]] = []
    absent: int = 0
    parts: list[Part] = []
    next_part: int = 0
    counts: Counts = msgspec.field(default_factory=Counts)
    spent: Spent = msgspec.field(default_factory=Spent)
    failed: dict[str, int] = {}
    sessions: list[SessionRecord] = []


def run_folder(store: Path, run: str) -> Path:
    """Where a run's manifest lives."""
    return store / "runs" / f"run={run}"


def manifest_path(store: Path, run: str) -> Path:
    """The manifest of a run."""
    return run_folder(store, run) / "run.json"


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        SchemaVersionError: it is of another version.
        StoreError: it is damaged.
    """
    raw = path.read_bytes()
    try:
        version = msgspec.json.decode(raw, type=_Versioned).schema_version
        if version != SCHEMA_VERSION:
            raise SchemaVersionError(path, version, SCHEMA_VERSION)
        return msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreError(
            f"{path} is damaged: {error}. Move the run's folders away and run the job again; "
            "answers already in the cache are not asked again."
        ) from error


PREVIOUS: Final = "run.json.previous"
"""The manifest before the last commit: it stands in for one that was damaged later."""


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Replace a manifest so that a reader or a crash sees the old one or the new one, whole; the old one is kept."""
    if path.exists():
        kept = path.with_name(f".{PREVIOUS}.tmp")
        kept.unlink(missing_ok=True)
        kept.hardlink_to(path)
        kept.replace(path.with_name(PREVIOUS))
    replace_file(path, msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")


def replace_file(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, make it durable, then rename it into place."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum(file: BinaryIO) -> tuple[int, int]:
    """CRC-32 and size of a file's bytes, as `PartFile` has them."""
    crc, size = 0, 0
    while block := file.read(1 << 20):
        crc = zlib.crc32(block, crc)
        size += len(block)
    return crc, size


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, and make their names durable: a synced file in a lost folder is lost."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


class _Versioned(msgspec.Struct):
    schema_version: Any = None
