"""The manifest of a run, `runs/run=<run>/run.json`, which lists what is committed, and the paths of a run's files.

A part file that no manifest lists does not count.
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
"""The names that a run may have."""


class PartFile(msgspec.Struct, forbid_unknown_fields=True):
    """One Parquet file of a part: its rows, its size in bytes, and the CRC-32 of these bytes."""

    rows: int
    size: int
    crc32: int


class Part(msgspec.Struct, forbid_unknown_fields=True):
    """The files that one commit added, by table; each is named `<name>.parquet`."""

    name: str
    files: dict[str, PartFile]


class Input(msgspec.Struct, forbid_unknown_fields=True):
    """A prompts file: its name, and its rows, size in bytes and digest, which identify its content."""

    name: str
    rows: int
    size: int
    digest: str


class Counts(msgspec.Struct):
    """Counts of a run's rows, answers, calls and tokens, over all its sessions."""

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
    """What the run has spent over all its sessions: calls, tokens, and US dollars at the job's latest prices.

    Failed calls count too, and lost answers at their worst case. `usd` is None without prices.
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

    `state` is `running`, `finished`, `stopped`, `interrupted` or `crashed`; the next session replaces `running` by
    `crashed`. `reason` is the failure class that stopped it, `message` the text of the error that ended it. `calls`
    counts the calls made in it. `verdict` has seconds by what held calls up (`limit_s`, `server_s`, `outage_s`,
    `machine_s`).
    """

    started_at: datetime
    ended_at: datetime | None = None
    state: str = "running"
    reason: str | None = None
    message: str | None = None
    calls: int = 0
    verdict: dict[str, float] = {}


MOST_SESSIONS: Final = 100
"""Sessions whose records a manifest keeps, the newest: it is written anew with each part, and has to stay small."""


class Manifest(msgspec.Struct, forbid_unknown_fields=True):
    """A run: the job and prompts that it was made from, how far it is, and the parts that have its rows.

    `settled` lists, as half-open intervals of call numbers (`schema.call_number`), the calls that have an outcome: a
    completion or a row of failures. `prompts_read` is how many prompts, from the first, have a row in the prompts
    table. `samples` is the most calls that a prompt has. A prompt with fewer candidates leaves numbers without a call;
    they are settled with the prompt's row, so that the intervals stay few, and `absent` counts them. `spent` is as of
    the last commit; `calls.log` beside the manifest has the calls since then. `failed` counts the open failures by
    class, as of the end of the last session that was not killed.
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
    """The folder of a run's manifest, log of calls and lock."""
    return store / "runs" / f"run={run}"


def manifest_path(store: Path, run: str) -> Path:
    """The file of a run's manifest."""
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
        SchemaVersionError: it was written with another schema version.
        StoreError: it is damaged.
        FileNotFoundError: there is none.
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
"""The name of the manifest before the last commit, with which a damaged one is repaired."""


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Replace a manifest, so that a reader or a crash sees the whole old or new one; the old one is kept beside it."""
    if path.exists():
        kept = path.with_name(f".{PREVIOUS}.tmp")
        kept.unlink(missing_ok=True)
        kept.hardlink_to(path)
        kept.replace(path.with_name(PREVIOUS))
    replace_file(path, msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")


class _Versioned(msgspec.Struct):
    schema_version: Any = None
