"""Fixture files: recorded answers as JSON Lines that a person can read in a diff, without secrets.

One line is one call. It holds the bodies of the request and of the answer as JSON. The answer's body is kept byte for
byte, as in the cache. A refusal (400, 429) is a line like any other, with its status:

    {"fixture":1,"key":"3fa9...","provider":"...","endpoint":"chat","sample_index":0,"request":{...},
     "recorded_at":"...","status":200,"headers":{"content-type":"application/json"},"body":{...}}

A body that is not JSON on one line is written as text under `body_text`, and one that is not UTF-8 under `body_base64`.
Files that end in `.zst` are compressed with zstd.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import zstandard

from logprob_store.counted import counted
from logprob_store.errors import FixtureError, PromptError, disk_error
from logprob_store.request import Answer, Request, request_key
from logprob_store.transport.body_reader import SUCCESS
from logprob_store.transport.kept_headers import RECORDED, kept

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FIXTURE_VERSION: Final = 1

# Patterns require a boundary before a key, and a digit in it where letters alone are common: otherwise
# `vendor_registration_number` and "the bearer is responsible" would match.
_SECRETS: Final = re.compile(
    rb"(?<![A-Za-z0-9])(?:"
    rb"(?:sk|pk|rk)[-_](?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}"  # OpenAI, Anthropic, OpenRouter and many others
    rb"|(?:gsk|hf|fw)_[A-Za-z0-9]{20,}|xai-[A-Za-z0-9]{20,}|tgp_v1_[A-Za-z0-9_-]{20,}|key-[0-9a-f]{32}"
    rb"|[Bb]earer\s+(?=[A-Za-z._~+/-]*[0-9])[A-Za-z0-9._~+/-]{16,}=*"
    rb"|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"  # JSON web tokens
    rb"|AIza[A-Za-z0-9_-]{30,}|AKIA[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{30,}"
    rb")"
)
_REDACTED: Final = b"[redacted]"
_ACCOUNTS: Final = re.compile(rb"(?<![A-Za-z0-9])(?:org-|proj_|user-)(?=[A-Za-z]*[0-9])[A-Za-z0-9]{12,}")
"""What refusals say of who asks: `Rate limit reached for gpt-4 in organization org-...`."""


class _Version(msgspec.Struct):
    fixture: int


class _FixtureLine(msgspec.Struct, omit_defaults=True):
    fixture: int
    key: str
    provider: str
    endpoint: str
    sample_index: int
    request: msgspec.Raw
    recorded_at: datetime | None = None
    status: int = 200
    headers: dict[str, str] = {}
    body_text: str | None = None
    body_base64: bytes | None = None
    body: msgspec.Raw = msgspec.Raw(b"")


@dataclass(frozen=True, slots=True)
class Fixture:
    """One recorded call: an answer, or a refusal, which has a status of its own."""

    key: str
    provider: str
    endpoint: str
    sample_index: int
    request: dict[str, Any] = field(repr=False)
    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)
    recorded_at: datetime | None = None

    def answer(self, request: Request) -> Answer:
        """This recording as the answer to `request`."""
        return Answer(request, self.status, self.headers, self.body, "fixture", fetched_at=self.recorded_at)


_RECORD_JOB: Final = "`logprobs record JOB.toml --fixtures DIR` records the answers to a job's prompts."


class Recordings:
    """The fixtures of a file or folder, by request key; a later line for a key replaces an earlier one.

    Lines are kept in memory as bytes, and parsed each time a fixture is read.

    Args:
        path: a `.jsonl` or `.jsonl.zst` file, or a folder of them.
        advice: what an error about a missing recording says to do.

    Raises:
        FixtureError: there are no fixtures, or a line is damaged, of another version, or has a key that is not that of
            its request.
    """

    def __init__(self, path: str | Path, *, advice: str = _RECORD_JOB) -> None:
        self.path = Path(path)
        self.advice = advice
        self._lines: dict[str, bytes] = {}
        for file in _fixture_files(self.path, advice):
            for number, raw in enumerate(_read_lines(file), start=1):
                if raw.strip():
                    self._lines[_checked_key(raw, f"{file}, line {number}")] = raw

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[Fixture]:
        return (_parse(raw) for raw in self._lines.values())

    def get(self, key: str) -> Fixture | None:
        """The recording with a request key, or None."""
        raw = self._lines.get(key)
        return None if raw is None else _parse(raw)


def read_fixture(line: bytes, where: str) -> Fixture:
    """Parse one line of a fixtures file; `where` names the line in errors.

    Raises:
        FixtureError: the line is damaged, of another version, or has a key that is not that of its request.
    """
    _checked_key(line, where)
    return _parse(line)


def _fixture_files(path: Path, advice: str) -> list[Path]:
    """The fixture files at a path, sorted by name; `advice` says what to do where there is none.

    Raises:
        FixtureError: there are no fixture files.
    """
    if path.is_file():
        return [path]
    files = sorted([*path.glob("*.jsonl"), *path.glob("*.jsonl.zst")]) if path.is_dir() else []
    if not files:
        raise FixtureError(
            f"no fixtures at {path}: expected a .jsonl or .jsonl.zst file, or a folder of them. {advice}"
        )
    return files


def write_fixtures(path: Path, answers: Iterable[Answer], *, keep: Recordings | None = None) -> int:
    """Write recordings to a file, in the order given, without API keys and without headers that identify anybody.

    Args:
        path: a `.jsonl` file, or `.jsonl.zst` for a compressed one; it is replaced as a whole.
        answers: the answers to write.
        keep: earlier recordings, written first, each replaced where an answer has its key.

    Returns:
        The number of lines in the file.

    Raises:
        FixtureError: a request holds what looks like an API key, or the file cannot be written; in both cases the file
            stays as it was.
    """
    lines = dict(keep._lines) if keep is not None else {}  # noqa: SLF001  the same module's class
    for answer in answers:
        lines[answer.request.key] = fixture_line(answer)
    raw = b"".join(line.rstrip(b"\n") + b"\n" for line in lines.values())
    if path.suffix == ".zst":
        raw = zstandard.ZstdCompressor(level=15, write_checksum=True).compress(raw)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_bytes(raw)
        temporary.replace(path)
    except OSError as error:
        raise disk_error(counted(len(lines), "recording"), path, error, of_answers=False) or FixtureError(
            f"fixtures file {path} cannot be written: {error}"
        ) from error
    return len(lines)


def fixture_line(answer: Answer) -> bytes:
    """One recording as a line of JSON, without a line end; API keys in the answer are redacted.

    Raises:
        FixtureError: the request holds what looks like an API key; removing it would change the request's key.
    """
    request = answer.request
    if found := _SECRETS.search(request.content):
        raise FixtureError(
            f"prompt {request.prompt_id!r} holds what looks like an API key ({found[0][:6].decode()}...), "
            "so it is not recorded. Take it out of the prompt."
        )
    body = _SECRETS.sub(_REDACTED, answer.body)
    if answer.status not in SUCCESS:
        body = _ACCOUNTS.sub(_REDACTED, body)
    line = _FixtureLine(
        FIXTURE_VERSION,
        request.key,
        request.provider,
        request.endpoint,
        request.sample_index,
        msgspec.Raw(request.content),
        answer.fetched_at,
        answer.status,
        kept(answer.headers, RECORDED),
    )
    if not _is_utf8(body):
        line.body_base64 = body
    elif _is_json_line(body):
        line.body = msgspec.Raw(body)
    else:
        line.body_text = body.decode()
    return msgspec.json.encode(line)


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_json_line(body: bytes) -> bool:
    # JSON on one line is read back without the white space around it, which would be lost.
    if b"\n" in body or b"\r" in body or body != body.strip():
        return False
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _read_lines(file: Path) -> list[bytes]:
    try:
        raw = file.read_bytes()
        if file.suffix == ".zst":
            raw = b"".join(_decompressed_frames(raw))
    except (OSError, zstandard.ZstdError) as error:
        raise FixtureError(f"fixtures file {file} cannot be read: {error}") from error
    return raw.split(b"\n")


def _decompressed_frames(raw: bytes) -> Iterator[bytes]:
    while raw:
        frame = zstandard.ZstdDecompressor().decompressobj()
        yield frame.decompress(raw)
        if not frame.eof:
            raise zstandard.ZstdError("it is cut off")
        raw = frame.unused_data


def _checked_key(raw: bytes, where: str) -> str:
    """The key of a line, after checking that the line is whole and that the key is that of its request."""
    try:
        version = msgspec.json.decode(raw, type=_Version).fixture
        if version != FIXTURE_VERSION:
            raise FixtureError(
                f"{where}: has fixture version {version}, this logprob-store reads {FIXTURE_VERSION}; record it again"
            )
        line = msgspec.json.decode(raw, type=_FixtureLine)
        if not bytes(line.body) and line.body_text is None and line.body_base64 is None:
            raise FixtureError(f"{where}: holds no answer. Was the line edited by hand? Record it again.")
        body = msgspec.json.decode(line.request, type=dict[str, Any])
        key = request_key(body, endpoint=line.endpoint, provider=line.provider, sample_index=line.sample_index)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, PromptError) as error:
        raise FixtureError(f"{where}: is no recording: {error}") from error
    if key != line.key:
        raise FixtureError(
            f"{where}: its key {line.key[:12]} is not that of its request ({key[:12]}). "
            "Was the line edited by hand? Record it again."
        )
    return key


def _parse(raw: bytes) -> Fixture:
    line = msgspec.json.decode(raw, type=_FixtureLine)
    if line.body_base64 is not None:
        body = line.body_base64
    else:
        body = bytes(line.body) if line.body_text is None else line.body_text.encode()
    return Fixture(
        line.key,
        line.provider,
        line.endpoint,
        line.sample_index,
        msgspec.json.decode(line.request),
        line.status,
        line.headers,
        body,
        line.recorded_at,
    )
