"""Every error that this package raises on purpose.

    LogprobStoreError
    ├── InputError                 what the user gave is wrong (exit code 2)
    │   ├── JobError               the job file
    │   ├── PromptsError           the prompts: files, columns, ids
    │   ├── TemplateError          a prompt template
    │   ├── FixtureError           a fixtures file
    │   ├── CacheError             the cache folder
    │   ├── LabelsCollideError     labels that an answer's tokens cannot tell apart
    │   └── StoreError             a store
    │       ├── StoreNotFoundError
    │       ├── RunNotFoundError
    │       ├── RunChangedError    the same run name, another job
    │       ├── RunLockedError     another process writes this run
    │       └── SchemaVersionError
    ├── DiskError                  the cache or the store cannot be written now; the run can be continued (exit code 4)
    ├── PromptError                one prompt cannot be asked: a failure row
    ├── CallError                  one call got no usable answer: a failure row
    │   ├── RetryableError         another call may succeed
    │   └── ReplayMissError        no recording for this request
    ├── DecodeError                an answer without what was asked for: a failure row
    └── StopRunError               further calls would be useless; the run can be continued (exit code 4)

    StoreWarning                   runs of a store cannot be read; the others are

Messages say what is wrong, where, and what to do; the constructors of some classes write them.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from logprob_store.counted import listed_runs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from logprob_store.usage import ServerReport

UNFORESEEN_FAULTS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What code raises that did not foresee an answer. It costs that answer: its neighbours and the run go on."""

_LONGEST_FAULT: Final = 300


def describe_fault(error: BaseException) -> str:
    r"""One of `UNFORESEEN_FAULTS` for a message that asks to report it; what a server sent is made printable.

    >>> describe_fault(TypeError("odd\n"))
    'TypeError: odd\\n'
    """
    said = "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(error)[:_LONGEST_FAULT])
    return f"{type(error).__name__}: {said}"


class LogprobStoreError(Exception):
    """The base class: catch this to catch everything that this package raises on purpose."""


class InputError(LogprobStoreError):
    """What the user gave is wrong; the message says what, where, and what to do."""


class JobError(InputError):
    """The job file is wrong."""


class PromptsError(InputError):
    """The prompts cannot be read: a file, a column, an id."""


class TemplateError(InputError):
    """A prompt template is not usable."""


class FixtureError(InputError):
    """A fixtures file is missing, damaged or of another version."""


class CacheError(InputError):
    """The cache cannot be opened, read or written."""


class LabelsCollideError(InputError):
    """Labels share a beginning that the answer did not take, so its probability cannot be assigned to one label."""

    def __init__(self, labels: str, text: str, weight: float, where: str) -> None:
        super().__init__(
            f"the labels {labels} collide: {text!r} begins each of them, with probability {weight:.3g}, and {where} "
            "went on otherwise, so it cannot be told whose that is. Give labels that begin differently; or "
            "shared='bound', to have it in the bounds; or shared='whole', if a token that spells a label is that label"
        )


class StoreError(InputError):
    """A store cannot be used as asked."""


class StoreWarning(UserWarning):
    """Some runs of a store cannot be read; the others are. It says which, and what to do."""


class StoreNotFoundError(StoreError):
    """There is no store at that path.

    Args:
        path: where one was looked for.
        why: what is there instead.
    """

    def __init__(self, path: object, why: str = "it has no runs/ folder. `logprobs run JOB.toml` makes one.") -> None:
        super().__init__(f"no store at {path}: {why}")


class RunNotFoundError(StoreError):
    """The store has no such run."""

    def __init__(self, run: str, known: list[str]) -> None:
        listed = f"it has: {listed_runs(known)}" if known else "it has no run yet"
        super().__init__(f"no run {run!r} in this store; {listed}")


class RunChangedError(StoreError):
    """The run exists, but was made by a different job or from different prompts."""

    def __init__(self, run: str, differences: list[str], *, advice: str) -> None:
        self.differences = differences
        what = "\n".join(f"  - {line}" for line in differences)
        super().__init__(
            f"run {run!r} exists, but the job is not the one that made it:\n{what}\n"
            f"{advice}, or undo the change to go on with the old one."
        )


class RunLockedError(StoreError):
    """Another process is writing this run."""

    def __init__(self, run: str, process: str, path: object) -> None:
        super().__init__(
            f"run {run!r} is being written by {process} (lock {path}). "
            "Wait for it to end; a job that is to run beside it needs another name, with --run NAME."
        )


CACHED_IS_NOT_ASKED: Final = 'answers that are in the cache are not asked again, unless cache.mode is "refresh"'


class SchemaVersionError(StoreError):
    """The store was written with another schema version."""

    def __init__(self, path: object, found: object, expected: int) -> None:
        super().__init__(
            f"{path} has schema version {found}, this logprob-store reads version {expected}. "
            "Run its job again into a new store (`logprobs run JOB.toml --store NEW --run NAME`): "
            f"{CACHED_IS_NOT_ASKED}. Or install the version that wrote it."
        )


MAKE_ROOM: Final = "Make room or make it writable"


class DiskError(LogprobStoreError):
    """The disk is full, read-only or failing; what was committed stays, and the run can be continued."""

    def __init__(
        self, what: str, path: object, cause: object, *, advice: str = MAKE_ROOM, of_answers: bool = True
    ) -> None:
        """`of_answers`: whether answers may be lost with it, so that they are asked again."""
        lost = ": answers that could not be written are asked again, and no others" if of_answers else ""
        super().__init__(
            f"{what} could not be written to {path}: {cause}. {advice}, then run the same command again{lost}."
        )


_OF_THE_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})
_RUST_ERRNO: Final = re.compile(r"\(os error (\d+)\)")
"""How polars says the number of an error that it does not give."""


def disk_error(what: str, path: object, cause: Exception, *, of_answers: bool = True) -> DiskError | None:
    """The error for a disk that is full, over a quota, read-only or failing; None where the cause is another one.

    What else keeps a file from being written, such as a permission or a file in a folder's place, the user has given.
    """
    number = getattr(cause, "errno", None)
    if number is None and (said := _RUST_ERRNO.search(str(cause))) is not None:
        number = int(said[1])
    return DiskError(what, path, cause, of_answers=of_answers) if number in _OF_THE_DISK else None


class PromptError(LogprobStoreError):
    """One prompt cannot be asked; it becomes a failure row and the job goes on."""

    def __init__(self, message: str, *, error_type: str = "bad_prompt") -> None:
        super().__init__(message)
        self.error_type = error_type


class Response(NamedTuple):
    """What a server sent in place of an answer, with the headers that are kept; a recording is made of it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime


class CallError(LogprobStoreError):
    """One call got no usable answer; it becomes a failure row and the job goes on.

    Args:
        message: what happened, in the server's words where there are any.
        error_type: the failure's class, one of `failures.FAILURES`; a column of the table `failures`.
        status: the HTTP status, if an answer came.
        maybe_billed: whether the request may have been billed though its answer was lost.

    `attempts` is the number of calls made; `report` is what the answer reported about rate limits; `response` is what
    came from the server in place of an answer, None where nothing did.
    """

    def __init__(
        self,
        message: str,
        *,
        error_type: str,
        status: int | None = None,
        maybe_billed: bool = False,
    ) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.status = status
        self.maybe_billed = maybe_billed
        self.attempts = 1
        self.report: ServerReport | None = None
        self.response: Response | None = None


class RetryableError(CallError):
    """A call that may succeed when it is made again.

    Args:
        message: see `CallError`.
        error_type: see `CallError`.
        status: see `CallError`.
        retry_after_s: seconds that the server asked to wait; None if it did not say.
        maybe_billed: see `CallError`.
        reached: whether a connection was made.
    """

    def __init__(
        self,
        message: str,
        *,
        error_type: str,
        status: int | None = None,
        retry_after_s: float | None = None,
        maybe_billed: bool = False,
        reached: bool = True,
    ) -> None:
        super().__init__(message, error_type=error_type, status=status, maybe_billed=maybe_billed)
        self.retry_after_s = retry_after_s
        self.reached = reached


class ReplayMissError(CallError):
    """No recording answers this request; the message names the nearest recording and what differs."""

    def __init__(self, key: str, fixtures: object, nearest: str | None, differences: list[str], *, advice: str) -> None:
        self.key = key
        self.differences = differences
        if nearest is None:
            near = "there is none for this endpoint"
        else:
            near = f"nearest {nearest[:12]} differs in " + "; ".join(differences)
        super().__init__(
            f"no recording for request {key[:12]} in {fixtures}: {near}. {advice}",
            error_type="replay_miss",
        )


class DecodeError(LogprobStoreError):
    """An answer without what was asked for; it becomes a failure row, and its bytes stay in the cache.

    Args:
        message: what is wrong, with the JSON path of the place.
        error_type: the failure's class, one of `failures.FAILURES`.
    """

    def __init__(self, message: str, *, error_type: str = "malformed_answer") -> None:
        super().__init__(message)
        self.error_type = error_type


class StopRunError(LogprobStoreError):
    """Further calls would be useless: the run stops, keeps what it has, and can be continued.

    Args:
        message: why, and what to do.
        reason: the failure's class, one of `failures.FAILURES`.
        status: the HTTP status, if an answer is the reason.
        said: the server's words; the message, if they are not given.

    `response` is what came from the server, where a single call is the reason; `maybe_billed` says whether that call
    may have been billed.
    """

    def __init__(self, message: str, *, reason: str, status: int | None = None, said: str = "") -> None:
        super().__init__(message)
        self.said = said or message
        self.reason = reason
        self.status = status
        self.response: Response | None = None
        self.maybe_billed = False
