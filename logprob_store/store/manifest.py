"""The manifest of a run, `runs/run=<run>/run.json`, which lists what is committed, and the paths of a run's files.

A part file that no manifest lists does not count. A manifest ends with a checksum of itself, and a second copy of it
stands beside it, for the day on which the first one is damaged or gone.
"""

from __future__ import annotations

import hashlib
import re
import stat
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import msgspec

from logprob_store.errors import CACHED_IS_NOT_ASKED, InputError, SchemaVersionError, StoreError
from logprob_store.schema import SCHEMA_VERSION
from logprob_store.store.durable_files import FILE_MODE, replace_file
from logprob_store.usage import Bill, Usage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


RUN_NAME: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}")
"""The names that a run may have."""


def check_run_name(run: str) -> None:
    """See that a run may have a name.

    Raises:
        InputError: it may not.
    """
    if not RUN_NAME.fullmatch(run):
        dots = ", and not dots alone" if run in {".", ".."} else ""
        raise InputError(f"run name {run!r}: use letters, digits, '.', '_' and '-', at most 128 of them{dots}")


Count = Annotated[int, msgspec.Meta(ge=0)]
TableName = Annotated[
    str, msgspec.Meta(pattern="^(prompts|completions|tokens|alternatives|decisions|failures|imports)$")
]


class PartFile(msgspec.Struct, forbid_unknown_fields=True):
    """One Parquet file of a part: its rows, its size in bytes, and the CRC-32 of these bytes."""

    rows: Count
    size: Count
    crc32: Count


class Part(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The files that one commit added, by table; each is named `<name>.parquet`.

    `counts` is what the part added to the manifest's counts; parts of version 0.1.0 do not say it.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"^part-[0-9]{5,9}$")]
    files: dict[TableName, PartFile]
    counts: dict[str, int] = {}


class Input(msgspec.Struct, forbid_unknown_fields=True):
    """A prompts file: its name, and its rows, size in bytes and digest, which identify its content.

    `rows_digest` is that of its rows in the columns that the job reads, by which rows may be added later.
    """

    name: str
    rows: int
    size: int
    digest: str
    rows_digest: str = ""


COUNTED_TABLES: Final = ("prompts", "completions", "tokens", "alternatives", "decisions")
"""The tables whose rows `Counts` has by their names; open failures are counted when a session ends."""


class Counts(msgspec.Struct):
    """Counts of a run's rows, answers, calls and tokens, over all its sessions."""

    prompts: int = 0
    completions: int = 0
    tokens: int = 0
    alternatives: int = 0
    decisions: int = 0
    failures: int = 0
    flagged: int = 0
    chosen_missing: int = 0
    text_differs: int = 0
    lossy_bytes: int = 0
    without_tokens: int = 0
    choices_differ: int = 0
    model_differs: int = 0
    tier_differs: int = 0
    refused_questions: int = 0
    unanswered_questions: int = 0
    sums_differ: int = 0
    from_api: int = 0
    from_batches: int = 0
    from_cache: int = 0
    from_fixtures: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class BilledTokens(msgspec.Struct):
    """The tokens of a run's calls that were billed alike: by one service tier, for prompts that are long, or not."""

    tier: str
    is_long: bool
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    written_tokens: int
    usd: float | None = None


_LEAST_USD: Final = 1e-12
"""Less than this is the difference of two sums of dollars, not a cost."""


def _billed(bill: Bill, usd_of: Callable[[Usage], float] | None) -> list[BilledTokens]:
    return [
        BilledTokens(line.tier, line.is_long, *line[:4], None if usd_of is None else usd_of(line))
        for line in bill
        if any(line[:4])
    ]


class Spent(msgspec.Struct):
    """What the run has spent over all its sessions: calls, tokens, and US dollars at the job's latest prices.

    Failed calls count too, and lost answers at their worst case. `usd` is None without prices, which `prices` has as
    they were. `billed` has the tokens apart where not all were billed alike, as by several service tiers; `lost` has
    those of the lost answers among them, by the dearest tier that may have served them.
    """

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = None
    written_tokens: int = 0
    billed: list[BilledTokens] = []
    lost: list[BilledTokens] = []
    prices: dict[str, Any] = {}

    @classmethod
    def of(
        cls,
        requests: int,
        bill: Bill,
        *,
        lost: Bill | None = None,
        usd_of: Callable[[Usage], float] | None = None,
        prices: dict[str, Any] | None = None,
    ) -> Spent:
        """What so many calls and tokens come to.

        Args:
            requests: calls.
            bill: their tokens.
            lost: those of them that lost answers count for.
            usd_of: gives the dollars of tokens; None without prices.
            prices: as values that JSON has.
        """
        lines = _billed(bill, usd_of)
        usd = None if usd_of is None else sum((line.usd or 0.0 for line in lines), 0.0)
        is_plain = len(lines) == 1 and not lines[0].tier and not lines[0].is_long
        prompt, cached, completion, written = bill.whole[:4]
        return cls(
            requests,
            prompt,
            cached,
            completion,
            usd,
            written,
            [] if is_plain else lines,
            [] if lost is None else _billed(lost, usd_of),
            prices or {},
        )

    @property
    def bill(self) -> Bill:
        """The tokens, apart by what they were billed as."""
        if not self.billed:
            return Bill(Usage(self.prompt_tokens, self.cached_tokens, self.completion_tokens, self.written_tokens))
        return Bill(
            *(
                Usage(
                    line.prompt_tokens,
                    line.cached_tokens,
                    line.completion_tokens,
                    line.written_tokens,
                    line.tier,
                    line.is_long,
                )
                for line in self.billed
            )
        )

    @property
    def usd_by_tier(self) -> dict[str, float]:
        """Dollars by the tier that served the calls, where they came about in several ways.

        The standard tier is `default`; `lost` is for answers that were lost, of which nobody knows what served them.
        """
        if self.usd is None:
            return {}
        by_tier: dict[str, float] = {}
        for sign, lines in ((1, self.billed), (-1, self.lost)):
            for line in lines:
                tier = line.tier or "default"
                by_tier[tier] = by_tier.get(tier, 0.0) + sign * (line.usd or 0.0)
        by_tier["lost"] = sum(line.usd or 0.0 for line in self.lost)
        by_tier = {tier: usd for tier, usd in by_tier.items() if usd > _LEAST_USD}
        return by_tier if len(by_tier) > 1 and self.billed else {}

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
    they are settled with the prompt's row, so that the intervals stay few, and `absent` counts them. `lost` lists the
    calls whose outcome a repair took out; those that are settled again since are in both. `spent` is as of
    the last commit; `calls.log` beside the manifest has the calls since then. `has_call_log` says that this file was
    begun; version 0.1.0 did not say it. `failed` counts the open failures by class, as of the end of the last session
    that was not killed. `columns` has the types of the columns that the job reads. Version 0.1.0 had neither these nor
    the digests of rows. `passed` counts the calls that `select` passed over, by the reason; `prompts_passed` counts the
    prompts, of the first `prompts_read`, that have no row because all their calls were.
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
    lost: list[tuple[int, int]] = []
    absent: int = 0
    parts: list[Part] = []
    next_part: int = 0
    counts: Counts = msgspec.field(default_factory=Counts)
    spent: Spent = msgspec.field(default_factory=Spent)
    has_call_log: bool = False
    failed: dict[str, int] = {}
    columns: dict[str, str] = {}
    passed: dict[str, int] = {}
    prompts_passed: int = 0
    sessions: list[SessionRecord] = []

    @property
    def is_import(self) -> bool:
        """Whether the run has imported answers: it has no calls that could be settled."""
        return any("imports" in part.files for part in self.parts)

    @property
    def has_answers(self) -> bool:
        """Whether the run holds an answer: one that failed altogether, or that was not begun, does not."""
        return any("completions" in part.files for part in self.parts)

    @property
    def is_partial(self) -> bool:
        """Whether the run finished with fewer prompts than its files have, as a trial with `--limit` does."""
        rows = sum(item.rows for item in self.inputs)
        return self.state == "finished" and not self.is_import and self.prompts_read < rows

    def begun_anew(
        self, job: dict[str, Any], inputs: list[Input], columns: dict[str, str], *, samples: int
    ) -> Manifest:
        """The manifest of the same run without a row, for another job; what was spent stays spent."""
        return Manifest(
            run=self.run,
            run_id=self.run_id,
            job_name=self.job_name,
            job=job,
            inputs=inputs,
            columns=columns,
            samples=samples,
            created_at=self.created_at,
            updated_at=self.updated_at,
            software=self.software,
            next_part=self.next_part,
            spent=self.spent,
            has_call_log=self.has_call_log,
            sessions=self.sessions,
        )


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


def listed_paths(store: Path, manifest: Manifest, table: str) -> list[Path]:
    """The files of a table that a manifest lists, in order."""
    return [part_path(store, table, manifest.run, part.name) for part in manifest.parts if table in part.files]


class Found(NamedTuple):
    """A run's manifest, and what is wrong with `run.json` if this is its copy."""

    manifest: Manifest
    problem: str | None


def find_manifest(store: Path, run: str) -> Found | None:
    """A run's manifest; its copy where it is damaged or gone; None where the run has neither.

    Raises:
        SchemaVersionError: it was written with another schema version.
        StoreError: it is damaged, and so is its copy; or a file is in the store's place.
    """
    path = manifest_path(store, run)
    if store.is_file():
        raise StoreError(f"the store {store} is a file: name a folder, which need not be there yet (store.path)")
    try:
        return Found(read_manifest(path), None)
    except FileNotFoundError:
        problem, is_there = f"{path} is missing", False
    except SchemaVersionError:
        raise
    except StoreError as error:
        problem, is_there = str(error), True
    for name in MANIFESTS[1:]:
        try:
            return Found(read_manifest(path.with_name(name)), problem)
        except FileNotFoundError:
            continue
        except StoreError:
            is_there = True
    if is_there:
        raise StoreError(f"{problem}, and its copy is damaged or gone too. {_advice(store, run)}")
    return None


def no_manifest(store: Path, run: str) -> StoreError:
    """The error for a run that has rows and neither a manifest nor a copy of one."""
    path = manifest_path(store, run)
    return StoreError(f"{path} is missing, and so is its copy; the run has files of rows. {_advice(store, run)}")


def _advice(store: Path, run: str) -> str:
    """What to do about a run that has no manifest that can be read."""
    return (
        f"If the store was copied, copy the file again. `logprobs rm {store} {run}` removes the run; run its job "
        f"again: {CACHED_IS_NOT_ASKED}"
    )


def read_manifest(path: Path) -> Manifest:
    """Read a manifest, and check that it is whole.

    Raises:
        SchemaVersionError: it was written with another schema version.
        StoreError: it is damaged, or cannot be read.
        FileNotFoundError: there is none.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _damaged(path, "it is no file")  # a pipe would be waited for
        raw = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    sealed = _SEALED.fullmatch(raw)
    is_whole = sealed is not None and _sha256(sealed["content"]) == sealed["sha256"]
    try:
        envelope = msgspec.json.decode(raw, type=_Envelope)
        if type(envelope.schema_version) is not int:
            raise _damaged(path, "it names no schema version")
        if envelope.schema_version != SCHEMA_VERSION and (is_whole or sealed is None):
            raise SchemaVersionError(path, envelope.schema_version, SCHEMA_VERSION)
        if envelope.sha256 is not None and not is_whole:  # version 0.1.0 wrote no checksum
            raise _damaged(path, "its checksum is not that of its content")
        manifest = msgspec.json.decode(raw if sealed is None else sealed["content"] + b"\n}", type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
    if path.parent.name != f"run={manifest.run}":
        raise _damaged(path, f"it is of run {manifest.run!r}")
    return manifest


def _damaged(path: Path, what: object) -> StoreError:
    return StoreError(f"{path} is damaged: {what}")


COPY: Final = "run.json.copy"
"""The name of a manifest's copy, written right after it: as old as the manifest, or by one commit older."""
MANIFESTS: Final = ("run.json", COPY, "run.json.previous")
"""Where a manifest may be, the best first. Version 0.1.0 kept the one before the last commit as `previous`."""
_SEALED: Final = re.compile(rb'(?P<content>.*),\n "sha256": "(?P<sha256>[0-9a-f]{64})"\n}\n', re.DOTALL)
"""A manifest: its content without the closing brace, and the SHA-256 of that."""


def write_manifest(path: Path, manifest: Manifest, *, mode: int = FILE_MODE) -> None:
    """Replace a manifest, so that a reader or a crash sees the whole old or new one, and then its copy."""
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=1).removesuffix(b"\n}")
    sealed = content + b',\n "sha256": "' + _sha256(content) + b'"\n}\n'
    for name in (path.name, COPY):
        replace_file(path.with_name(name), sealed, mode=mode)
    path.with_name(MANIFESTS[-1]).unlink(missing_ok=True)


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


class _Envelope(msgspec.Struct):
    schema_version: Any = None
    sha256: Any = None
