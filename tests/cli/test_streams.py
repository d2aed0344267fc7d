"""Standard input, output and error as schedulers and terminals give them: closed, full, not UTF-8."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from logprob_store.cli.streams import output_error
from logprob_store.errors import DiskError

pytestmark = pytest.mark.slow

PROGRAM = Path(sys.executable).with_name("logprobs")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with an answer in Polish and a Chinese alternative."""
    folder = tmp_path_factory.mktemp("store")
    text = "Łódź"
    tokens = [{"token": word, "logprob": -0.5, "bytes": list(word.encode())} for word in (text, "東")]
    answer = {
        "id": "a",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text},
                "logprobs": {"content": [tokens[0] | {"top_logprobs": tokens}]},
            }
        ],
    }
    (folder / "a.jsonl").write_text(json.dumps(answer) + "\n", encoding="utf-8")
    subprocess.run([PROGRAM, "import", "a.jsonl", "--store", "out"], cwd=folder, check=True, capture_output=True)
    return folder / "out"


def logprobs(*words: object, redirect: str = "", **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command by a shell, with standard streams redirected and environment variables set."""
    command = f'"{PROGRAM}" "$@" {redirect}'
    environment = {"PATH": os.environ["PATH"], "PYTHONUTF8": "0", **variables}
    return subprocess.run(
        ["sh", "-c", command, "sh", *map(str, words)], env=environment, capture_output=True, check=False
    )


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "ascii:strict"])
@pytest.mark.parametrize("command", ["scores", "show", "status", "labels"])
def test_letters_that_cannot_be_shown_are_replaced(store: Path, encoding: str, command: str) -> None:
    """The command ends well, and the letters that can be shown are there."""
    words = {"show": ["show", store, "a"], "labels": ["labels", store, "--labels", "Łódź,東"]}

    done = logprobs(*words.get(command, [command, store]), PYTHONIOENCODING=encoding)

    assert (done.returncode, done.stderr) == (0, b"")
    if command == "show":
        assert ("'?ód?'" if encoding in {"latin-1", "cp1252"} else "'??d?'") in done.stdout.decode("latin-1")


def test_json_has_all_letters_whatever_the_encoding(store: Path) -> None:
    """Escapes of JSON are ASCII."""
    done = logprobs("scores", store, "--json", PYTHONIOENCODING="ascii")

    assert json.loads(done.stdout)[0]["text"] == "Łódź"
    assert done.stdout.isascii()


def test_json_is_plain_where_all_letters_can_be_shown(store: Path) -> None:
    """As before, for people who read it."""
    assert "Łódź" in logprobs("scores", store, "--json", PYTHONIOENCODING="utf-8").stdout.decode()


@pytest.mark.parametrize("redirect", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", [["scores"], ["scores", "--json"]])
def test_closed_streams_are_no_error(store: Path, redirect: str, words: list[str]) -> None:
    """Nothing can be printed, and nothing is."""
    done = logprobs(words[0], store, *words[1:], redirect=redirect)

    assert (done.returncode, done.stderr) == (0, b"")


def test_an_error_that_cannot_be_printed_is_still_an_exit_code() -> None:
    """It does not go to standard output instead, which may be read by a program."""
    done = logprobs("scores", "/no/such/store", redirect="2>&-")

    assert (done.returncode, done.stdout) == (2, b"")


def test_a_closed_descriptor_is_not_that_of_the_next_file() -> None:
    """What a library writes to standard error would go into a part of the store."""
    code = (
        "from logprob_store.cli.streams import prepare_streams; import os; prepare_streams(); "
        "print(os.open('/dev/null', os.O_RDONLY) > 2)"
    )

    done = subprocess.run(["sh", "-c", f'"{sys.executable}" -c "{code}" <&- 2>&-'], capture_output=True, check=True)

    assert done.stdout == b"True\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("words", [["scores"], ["scores", "--json"], ["--help"]])
def test_a_full_disk_behind_standard_output_is_one_sentence(store: Path, words: list[str]) -> None:
    """Exit code 4: the same command goes on."""
    done = logprobs(*words, *([store] if words != ["--help"] else []), redirect="> /dev/full")

    assert (done.returncode, len(done.stderr.splitlines())) == (4, 1)
    assert done.stderr.startswith(b"logprobs: the output could not be written to standard output: ")
    assert done.stderr.endswith(b"then run the same command again.\n")


def test_a_full_disk_is_told_from_the_error_when_the_buffer_is_empty() -> None:
    """A text larger than the buffer fails as it is written; an error that names a file is that of the file."""
    full = OSError(errno.ENOSPC, "No space left on device")

    assert isinstance(output_error(full), DiskError)
    assert "asked again" not in str(output_error(full))
    assert "to part.parquet" in str(output_error(OSError(errno.ENOSPC, "No space left on device", "part.parquet")))
    assert output_error(OSError(errno.EACCES, "Permission denied", "part.parquet")) is None
    assert output_error(OSError(errno.ENOENT, "No such file")) is None
