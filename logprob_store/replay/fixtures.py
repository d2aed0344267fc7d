"""Fixtures: recorded answers as JSON Lines that a person can read in a diff.

Holds the format, reading it, writing it, and what is taken out before writing. Leaves out answering from fixtures
(`transport.replay`, `testing`) and making the calls.

One line is one call. The request's body and the answer's body stand in it as JSON; the answer's is verbatim, byte for
byte, so that a fixture and the cache hold the same thing:

    {"fixture":1,"key":"3fa9...","provider":"...","endpoint":"chat","sample_index":0,"request":{...},
     "recorded_at":"...","status":200,"headers":{"content-type":"application/json"},"body":{...}}

An answer that is no JSON on one line stands as text under `body_text`, one that is no text under `body_base64`. Files
ending in `.zst` are zstd-compressed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import zstandard

from logprob_store.errors import FixtureError, PromptError
from logprob_store.request import Answer, Request, request_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FIXTURE_VERSION: Final = 1

KEPT_HEADERS: Final = ("content-type",)
"""All other headers name a person, an organisation, a machine or a moment."""

# Each needs a boundary before it and a digit in it, or `vendor_registration_number` and "the bearer is responsible"
# would pass for keys.
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


class _Versioned(msgspec.Struct):
    fixture: int


class _Line(msgspec.Struct, omit_defaults=True):
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
    """One recorded call."""

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


class Recordings:
    """The fixtures of a file or folder, by request key; a later line for a key replaces an earlier one.

    Lines are kept as they were read and parsed when asked for.

    Args:
        path: a `.jsonl` or `.jsonl.zst` file, or a folder of them.

    Raises:
        FixtureError: there is none, or a line is damaged, of another version, or edited so that its key is wrong.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lines: dict[str, bytes] = {}
        for file in fixture_files(self.path):
            for number, raw in enumerate(_read_lines(file), start=1):
                if raw.strip():
                    self._lines[_check(raw, f"{file}, line {number}")] = raw

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[Fixture]:
        return (_parse(raw) for raw in self._lines.values())

    def get(self, key: str) -> Fixture | None:
        """The recording of this very call, or None."""
        raw = self._lines.get(key)
        return None if raw is None else _parse(raw)


def read_fixture(line: bytes, where: str) -> Fixture:
    """One line of a fixtures file as a recording; `where` begins the message if it is none.

    Raises:
        FixtureError: it is damaged, of another version, or edited so that its key is wrong.
    """
    _check(line, where)
    return _parse(line)


def fixture_files(path: Path) -> list[Path]:
    """The fixture files at a path, sorted.

    Raises:
        FixtureError: there are none.
    """
    if path.is_file():
        return [path]
    files = sorted([*path.glob("*.jsonl"), *path.glob("*.jsonl.zst")]) if path.is_dir() else []
    if not files:
        raise FixtureError(
            f"no fixtures at {path}: expected a .jsonl or .jsonl.zst file, or a folder of them. "
            "`logprobs record JOB.toml --fixtures DIR` makes some."
        )
    return files


def write_fixtures(path: Path, answers: Iterable[Answer], *, keep: Recordings | None = None) -> int:
    """Write recordings to a file, in the order given, without what identifies or authorises anybody.

    Args:
        path: a `.jsonl` file, or `.jsonl.zst` for a compressed one; replaced as a whole.
        answers: what to write.
        keep: earlier recordings, written first unless an answer replaces them.

    Returns:
        How many lines the file has.

    Raises:
        FixtureError: a request holds what looks like an API key, or the file cannot be written; it stays as it was.
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
        raise FixtureError(f"fixtures file {path} cannot be written: {error}") from error
    return len(lines)


def fixture_line(answer: Answer) -> bytes:
    """One recording as a line of JSON.

    Raises:
        FixtureError: the request holds what looks like an API key.
    """
    request = answer.request
    if found := _SECRETS.search(request.content):
        raise FixtureError(
            f"prompt {request.prompt_id!r} holds what looks like an API key ({found[0][:6].decode()}...), "
            "so it is not recorded. Take it out of the prompt."
        )
    body = _SECRETS.sub(_REDACTED, answer.body)
    line = _Line(
        FIXTURE_VERSION,
        request.key,
        request.provider,
        request.endpoint,
        request.sample_index,
        msgspec.Raw(request.content),
        answer.fetched_at,
        answer.status,
        {name: value for name, value in answer.headers.items() if name in KEPT_HEADERS},
    )
    if not _is_text(body):
        line.body_base64 = body
    elif _is_json_line(body):
        line.body = msgspec.Raw(body)
    else:
        line.body_text = body.decode()
    return msgspec.json.encode(line)


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_json_line(body: bytes) -> bool:
    # White space around a value belongs to the line, not to the value: it would be lost on reading.
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
            raw = b"".join(_frames(raw))
    except (OSError, zstandard.ZstdError) as error:
        raise FixtureError(f"fixtures file {file} cannot be read: {error}") from error
    return raw.split(b"\n")


def _frames(raw: bytes) -> Iterator[bytes]:
    while raw:
        frame = zstandard.ZstdDecompressor().decompressobj()
        yield frame.decompress(raw)
        if not frame.eof:
            raise zstandard.ZstdError("it is cut off")
        raw = frame.unused_data


def _check(raw: bytes, where: str) -> str:
    try:
        version = msgspec.json.decode(raw, type=_Versioned).fixture
        if version != FIXTURE_VERSION:
            raise FixtureError(
                f"{where}: has fixture version {version}, this logprob-store reads {FIXTURE_VERSION}; record it again"
            )
        line = msgspec.json.decode(raw, type=_Line)
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
    line = msgspec.json.decode(raw, type=_Line)
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
