"""A run's manifest, `runs/run=<run>/run.json`: the list of what is committed. A file that it leaves out does not count.

Holds the manifest's fields, the paths of runs and parts, and how a manifest is read and replaced.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.errors import SchemaVersionError, StoreError
from logprob_store.schema import SCHEMA_VERSION
from logprob_store.store.durable_files import replace_file

if TYPE_CHECKING:
    from pathlib import Path


RUN_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
"""What a run may be called."""


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
    without_tokens: int = 0
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


def table_folder(store: Path, table: str, run: str) -> Path:
    """The folder that holds a run's files of a table."""
    return store / table / f"run={run}"


def part_path(store: Path, table: str, run: str, part: str) -> Path:
    """The file that holds a part's rows of a table."""
    return table_folder(store, table, run) / f"{part}.parquet"


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


class _Versioned(msgspec.Struct):
    schema_version: Any = None
