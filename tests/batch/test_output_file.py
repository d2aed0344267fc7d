"""Lines of output and error files, as services write them and as they should not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from logprob_store.batch.output_file import OutputLine, is_whole, read_output, take
from logprob_store.errors import CallError, RetryableError, StopRunError
from logprob_store.transport.redaction import Redaction

if TYPE_CHECKING:
    from pathlib import Path

BODY = {"choices": [{"index": 0}], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}


def line(body: Any = BODY, *, status: Any = 200, custom_id: Any = "1-a", error: Any = None) -> str:
    """A line of an output file."""
    return json.dumps({"custom_id": custom_id, "response": {"status_code": status, "body": body}, "error": error})


def read(tmp_path: Path, text: str | bytes) -> list[OutputLine | None]:
    """The lines of a file."""
    path = tmp_path / "output"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read_output(path))


def taken(tmp_path: Path, text: str) -> Any:
    """What the one line of a file means."""
    [found] = read(tmp_path, text)
    assert found is not None
    return take(found, Redaction("sk-0123456789abcdef"), endpoint="chat")


def test_a_body_is_kept_as_it_came(tmp_path: Path) -> None:
    """The bytes between the braces, with their spaces and their order of keys."""
    body = '{"usage": null,  "choices":[ {"index":0} ]}'
    text = f'{{"response":{{"body":{body},"status_code":200}},"custom_id":"1-a"}}\n'

    assert taken(tmp_path, text).body == body.encode()


def test_the_tokens_of_an_answer_are_read(tmp_path: Path) -> None:
    """As of a live answer."""
    assert taken(tmp_path, line()).usage.total == 5


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n\n", " \n", ""])
def test_lines_end_in_any_way(tmp_path: Path, end: str) -> None:
    """Windows' ends, empty lines, and none at the end of the file."""
    assert len(read(tmp_path, line() + end)) == 1


@pytest.mark.parametrize("char", ["\u2028", "\u2029", "\u0085", "\x0b", "\x1c"])
def test_a_separator_inside_of_a_text_ends_no_line(tmp_path: Path, char: str) -> None:
    """Python's `splitlines` would cut there."""
    text = json.dumps({"custom_id": "1-a", "response": {"body": {"choices": [f"a{char}b"]}}}, ensure_ascii=False)
    if char in "\x0b\x1c":
        text = json.dumps(json.loads(text))

    assert [found and found.custom_id for found in read(tmp_path, text + "\n")] == ["1-a"]


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    """Some editors and services write one."""
    assert read(tmp_path, b"\xef\xbb\xbf" + line().encode())[0] is not None


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"custom_id": 5}', '{"id": "x"}', "<html>", '{"custom_id":"1'])
def test_a_line_that_is_none_is_told(tmp_path: Path, text: str) -> None:
    """It costs itself alone."""
    assert read(tmp_path, f"{text}\n{line()}\n")[0] is None
    assert read(tmp_path, f"{text}\n{line()}\n")[1] is not None


def test_a_line_that_lenient_parsers_read_is_read(tmp_path: Path) -> None:
    """With NaN in it, the whole line is no JSON, and it was paid for."""
    found = taken(tmp_path, line().replace('"index": 0', '"index": 0, "score": NaN'))

    assert (found.error, json.loads(found.body)["choices"][0]["index"]) == (None, 0)


REFUSED = {
    "a status of 0": (line(None, status=0), "server_error", True),
    "a refusal": (line({"error": {"message": "no"}}, status=400), "invalid_request", False),
    "a limit": (line({"error": {"message": "slow"}}, status=429), "rate_limit", True),
    "an error of the server": (line({"error": {"message": "oops"}}, status=500), "server_error", True),
    "status as text": (line({"error": {"message": "oops"}}, status="503"), "server_error", True),
    "a status that is no number": (
        line({"error": {"code": 500, "message": "x"}}, status="batch"),
        "server_error",
        True,
    ),
    "an error with status 200": (line({"error": {"message": "oops", "code": 500}}), "server_error", True),
    "expired": (
        '{"custom_id":"1-a","response":null,"error":{"code":"batch_expired","message":"x"}}',
        "batch_ended",
        True,
    ),
    "cancelled": ('{"custom_id":"1-a","response":null,"error":{"code":"batch_cancelled"}}', "batch_ended", True),
    "no answer in time": (
        '{"custom_id":"1-a","response":null,"error":{"code":"request_timeout"}}',
        "server_error",
        True,
    ),
    "an error that is a text": ('{"custom_id":"1-a","response":null,"error":"bad"}', "invalid_request", False),
    "vLLM's": (line(None, status=400, error="bad request"), "invalid_request", False),
    "nothing at all": ('{"custom_id":"1-a","response":null,"error":null}', "batch_lost", True),
    "no body": (line(None), "batch_lost", True),
}


@pytest.mark.parametrize(("text", "kind", "again"), REFUSED.values(), ids=REFUSED)
def test_an_error_has_its_class(tmp_path: Path, text: str, kind: str, again: bool) -> None:  # noqa: FBT001
    """By its code first and its status second, and whether another batch may answer."""
    error = taken(tmp_path, text).error

    assert isinstance(error, CallError)
    assert (error.error_type, isinstance(error, RetryableError)) == (kind, again)


def test_vllm_wraps_its_error(tmp_path: Path) -> None:
    """Its words are kept."""
    wrapped = {"error": {"message": "max_tokens is too large", "code": 400}}

    assert "max_tokens is too large" in str(taken(tmp_path, line(None, status=400, error=wrapped)).error)


def test_a_key_that_is_refused_stops_the_run(tmp_path: Path) -> None:
    """Each other line would fail alike."""
    error = taken(tmp_path, line({"error": {"message": "no key"}}, status=401)).error

    assert isinstance(error, StopRunError)


@pytest.mark.parametrize(
    ("content", "whole"),
    [("", True), (line(), True), (line() + "\n", True), (line() + "\n" + line()[:-30], False), (line()[:-1], False)],
)
def test_a_file_that_broke_off_is_known(tmp_path: Path, content: str, whole: bool) -> None:  # noqa: FBT001
    """By its last line."""
    path = tmp_path / "output"
    path.write_text(content)

    assert is_whole(path) is whole
