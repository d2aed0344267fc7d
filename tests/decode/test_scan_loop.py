"""The compiled loop: what it may do with memory, and what happens where it is not compiled."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from builders import answer_with
from decode.decoding import frames
from decode.test_bulk import IRREGULAR, REGULAR, bodies_of

from logprob_store.decode.bulk import scan_loop
from logprob_store.decode.bulk.scanner import ScanBuffers, scan
from logprob_store.decode.decoder import decode_answers

if TYPE_CHECKING:
    from collections.abc import Iterator

HARNESS = Path(__file__).with_name("scan_loop_harness.c")
PIECES = (b"", b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u", b"\\ud83d", b"0", b"-1", b"1e", b"1.", b"n")
PIECES += (b"null", b'"token":', b'"logprobs":{', b"\0")


@pytest.fixture
def fresh_loading() -> Iterator[None]:
    """Look for the loop anew in this test, and again after it."""
    scan_loop.load_scan_loop.cache_clear()
    yield
    scan_loop.load_scan_loop.cache_clear()


def damaged(count: int) -> Iterator[bytes]:
    """Regular and irregular values and bodies, with some bytes taken out, put in or doubled; the same each time."""
    seeds = [text.encode() for text in REGULAR + IRREGULAR] + bodies_of(REGULAR)
    draw = random.Random(17)  # noqa: S311  no secret
    for _ in range(count):
        text = draw.choice(seeds)
        for _ in range(draw.randrange(1, 4)):
            at = draw.randrange(len(text) + 1)
            behind = at + draw.choice([0, 0, 1, 2, len(text)])
            text = text[:at] + draw.choice([*PIECES, text[at : at + 9]]) + text[behind:]
        yield text


def compile_with_sanitizers(source: Path, program: Path) -> subprocess.CompletedProcess[str]:
    """Compile so that each read and write that is not allowed ends the program."""
    options = ["-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    return subprocess.run(["cc", *options, source, "-o", program], capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_whatever_the_bytes_are_no_other_memory_is_touched(tmp_path: Path) -> None:
    """Sanitizers see every read and write over damaged JSON."""
    nothing = tmp_path / "nothing.c"
    nothing.write_text("#include <stdio.h>\nint main(void) { return 0; }\n", encoding="utf-8")
    if compile_with_sanitizers(nothing, tmp_path / "nothing").returncode != 0:
        pytest.skip("this compiler has no sanitizers, or no headers of a C library")
    compiled = compile_with_sanitizers(HARNESS, tmp_path / "harness")
    assert compiled.returncode == 0, compiled.stderr

    inputs = tmp_path / "inputs"
    inputs.write_bytes(b"".join(struct.pack("=I", len(text)) + text for text in damaged(50_000)))
    done = subprocess.run([tmp_path / "harness", inputs], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("50000 inputs, ")


@pytest.mark.skipif(scan_loop.load_scan_loop() is None, reason="the loop was not compiled here")
def test_a_damaged_text_leaves_its_neighbours_as_they_are() -> None:
    """The rows of a good value before and behind it are the same as without it."""
    good = REGULAR[0].encode()
    buffers = ScanBuffers()
    alone = scan([good, good], buffers)
    expected = (alone.tokens.texts.tobytes(), alone.alternatives.numbers.tobytes(), alone.tokens.position.tolist())
    for text in damaged(2000):
        if b"\0" in text:
            continue
        found = scan([good, text, good], buffers)
        rows = len(found.tokens.position)
        kept = [row for row in range(rows) if found.tokens.owner[row] != 1]

        assert found.end[0] == found.end[2] == len(good)
        assert [int(found.tokens.position[row]) for row in kept] == expected[2]
        if rows == len(kept):
            assert (found.tokens.texts.tobytes(), found.alternatives.numbers.tobytes()) == expected[:2]


@pytest.mark.usefixtures("fresh_loading")
def test_a_loop_of_another_source_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change of the source, an editable install reads token by token until it is installed again."""
    changed = tmp_path / "scan_loop.c"
    changed.write_bytes(scan_loop.SOURCE.read_bytes() + b"\n")
    monkeypatch.setattr(scan_loop, "SOURCE", changed)

    assert scan_loop.load_scan_loop() is None


@pytest.mark.usefixtures("fresh_loading")
@pytest.mark.parametrize("content", [None, b"", b"not a library", b"\x7fELF" + bytes(100)], ids=str)
def test_without_a_loop_logprobs_are_read_token_by_token(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables are the same, with no loop or a file that is none."""
    answers = [answer_with(body, prompt_index=n) for n, body in enumerate(bodies_of(REGULAR + IRREGULAR))]
    expected = decode_answers(answers, scanner_min_bytes=0)
    library = tmp_path / "libscan_loop.so"
    if content is not None:
        library.write_bytes(content)
    monkeypatch.setattr(scan_loop, "LIBRARY", library)
    scan_loop.load_scan_loop.cache_clear()
    decoded = decode_answers(answers, scanner_min_bytes=0)

    assert decoded.not_scanned == list(range(len(answers)))
    for one, other in zip(frames(decoded), frames(expected), strict=True):
        assert one.equals(other)
