"""Fixture files: bodies come back byte for byte, and no key or identifying header is written."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from builders import completions_answer
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.decode.decoder import decode_answers
from logprob_store.decode.rebuild import rebuild_logprobs
from logprob_store.errors import FixtureError
from logprob_store.replay.fixtures import Recordings, fixture_line, write_fixtures
from logprob_store.request import make_request
from logprob_store.transport.kept_headers import RECORDED

if TYPE_CHECKING:
    from logprob_store.request import Answer

COMMITTED = sorted((Path(__file__).parents[2] / "fixtures").glob("**/*.jsonl*"))

SECRETS = {
    "openai": "sk-proj-Ab12Cd34Ef56Gh78Ij90Kl12",
    "openrouter": "sk-or-v1-" + "0123456789abcdef" * 4,
    "groq": "gsk_" + "a1B2" * 13,
    "hugging face": "hf_" + "aB3d" * 9,
    "google": "AIza" + "Sy9_" * 9,
    "aws": "AKIA" + "ABCD1234" * 2,
    "github": "ghp_" + "a1B2" * 9,
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w",
    "bearer": "Bearer abcdef0123456789abcdef",
}

HARMLESS = [
    "vendor_registration_number_2024_total",
    "key_performance_indicator_2024_q1_report",
    "the ta{}-oriented-programming-course-101".format("sk"),
    "the bearer responsibilities internationalization",
    "chatcmpl-Ab12Cd34Ef56Gh78Ij90Kl12Mn34",
    "sk-learn and risk-averse-investors-of-the-world",
]


def _written(path: Path, *answers: Answer) -> Recordings:
    write_fixtures(path, answers)
    return Recordings(path)


_BODIES = st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
).flatmap(lambda value: st.sampled_from([None, 1]).map(lambda indent: json.dumps(value, indent=indent).encode()))


@given(body=_BODIES)
def test_any_body_comes_back_byte_for_byte(tmp_path: Path, body: bytes) -> None:
    """That holds for JSON on one line or several, for text, for an empty body, and for bytes that are not UTF-8."""
    recordings = _written(tmp_path / "f.jsonl", completions_answer(body=body))

    found = recordings.get(completions_answer().request.key)

    assert found is not None
    assert found.body == body


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"a": 1.50, "b": "\\u00e9"}', "body"),
        (b'{\n  "a": 1\n}', "body_text"),
        (b' {"a":1}', "body_text"),
        (b"<html>", "body_text"),
        (b"", "body_text"),
        (b'{"a":"\xff"}', "body_base64"),
    ],
)
def test_the_field_that_holds_a_body(body: bytes, field: str) -> None:
    """JSON on one line is kept as it is, so that a person can read it in a diff; each line of the file is JSON."""
    line = fixture_line(completions_answer(body=body))

    assert b"\n" not in line
    assert [name for name in json.loads(line) if name.startswith("body")] == [field]
    assert field != "body" or body in line


def test_the_fields_of_a_line() -> None:
    """Status, time and content type are written; other headers are not."""
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    headers = {"content-type": "text/plain", "server": "host-17", "x-request-id": "req", "openai-organization": "me"}
    line = fixture_line(
        completions_answer(status=201, headers=headers, fetched_at=at, run="r", latency_s=1.0, attempts=3)
    )

    kept = json.loads(line)

    assert kept["headers"] == {"content-type": "text/plain"}
    assert (kept["status"], kept["recorded_at"]) == (201, "2026-01-02T03:04:05Z")
    assert kept.keys() == {
        "fixture", "key", "provider", "endpoint", "sample_index", "request", "recorded_at", "status", "headers", "body",
    }  # fmt: skip


def test_a_refusal_does_not_say_who_asked() -> None:
    """Services name the organisation in what they refuse; an answer is kept as it is."""
    body = b'{"error":{"message":"Rate limit reached for gpt-4 in organization org-ABcdef0123456789 on requests"}}'

    assert b"organization [redacted] on" in fixture_line(completions_answer(body=body, status=429))
    assert b"org-ABcdef0123456789" in fixture_line(completions_answer(body=body))


def test_a_refusal_keeps_what_a_client_acts_on() -> None:
    """When to try again, and whether."""
    headers = {"retry-after": "20", "x-should-retry": "false", "x-ratelimit-limit-requests": "500", "set-cookie": "a"}

    kept = json.loads(fixture_line(completions_answer(status=429, headers=headers)))

    assert (kept["status"], kept["headers"]) == (429, {"retry-after": "20", "x-should-retry": "false"})


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_in_an_answer_is_redacted(name: str) -> None:
    """Text in an answer that looks like an API key is not written."""
    line = fixture_line(completions_answer(body=json.dumps({"text": f"your key {SECRETS[name]} is wrong"}).encode()))

    assert SECRETS[name].encode() not in line
    assert b"[redacted]" in line


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_in_a_prompt_is_refused(name: str, tmp_path: Path) -> None:
    """Redacting it would change the request key, so nothing is written; the error does not show the secret."""
    with pytest.raises(FixtureError, match="looks like an API key") as caught:
        write_fixtures(
            tmp_path / "f.jsonl", [completions_answer("fine"), completions_answer(f"my key is {SECRETS[name]}")]
        )

    assert SECRETS[name] not in str(caught.value)
    assert not (tmp_path / "f.jsonl").exists()


@pytest.mark.parametrize("text", HARMLESS)
def test_ordinary_words_are_no_secrets(text: str) -> None:
    """Long names and words are written as they are, in prompts and in answers."""
    body = json.dumps({"text": text}).encode()

    assert body in fixture_line(completions_answer(text, body))


def test_a_later_line_replaces_an_earlier(tmp_path: Path) -> None:
    """Of several lines with one key, the last counts."""
    path = tmp_path / "f.jsonl"
    path.write_bytes(
        fixture_line(completions_answer(body=b"1")) + b"\n\n" + fixture_line(completions_answer(body=b"2")) + b"\n"
    )

    recordings = Recordings(path)

    assert [fixture.body for fixture in recordings] == [b"2"]


def test_samples_have_recordings_of_their_own(tmp_path: Path) -> None:
    """Two samples of one prompt are two recordings."""
    recordings = _written(
        tmp_path / "f.jsonl", completions_answer(body=b"1"), completions_answer(body=b"2", sample_index=1)
    )

    assert [fixture.body for fixture in recordings] == [b"1", b"2"]


def test_earlier_lines_stay_first_and_unchanged(tmp_path: Path) -> None:
    """Adding recordings leaves earlier lines as they were, so that a diff shows only what is new."""
    path = tmp_path / "f.jsonl"
    before = _written(path, completions_answer("a", b'{"v":1}'), completions_answer("b", b'{"v":1}'))
    old = path.read_bytes().splitlines()

    lines = write_fixtures(path, [completions_answer("b", b'{"v":2}'), completions_answer("c")], keep=before)

    new = path.read_bytes().splitlines()
    assert lines == len(new) == 3
    assert new[0] == old[0]
    assert [json.loads(line)["request"]["prompt"] for line in new] == ["a", "b", "c"]
    assert json.loads(new[1])["body"] == {"v": 2}


def test_compressed_fixtures(tmp_path: Path) -> None:
    """A file that ends in .zst is compressed, and may be read in several frames."""
    path = tmp_path / "f.jsonl.zst"
    _written(path, completions_answer("a"))
    one = path.read_bytes()
    _written(path, completions_answer("b"))
    path.write_bytes(one + path.read_bytes())

    assert one.startswith(b"\x28\xb5\x2f\xfd")
    assert [fixture.request["prompt"] for fixture in Recordings(path)] == ["a", "b"]


def test_a_folder_of_fixtures(tmp_path: Path) -> None:
    """All fixture files of a folder are read, compressed or not, and no other files."""
    _written(tmp_path / "b.jsonl", completions_answer("b"))
    _written(tmp_path / "a.jsonl.zst", completions_answer("a"))
    (tmp_path / "README.md").write_text("no recording")

    assert [fixture.request["prompt"] for fixture in Recordings(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize("place", ["missing.jsonl", "empty folder"])
def test_no_fixtures(tmp_path: Path, place: str) -> None:
    """A path without fixtures is an error that says how to make some."""
    (tmp_path / "empty folder").mkdir()

    with pytest.raises(FixtureError, match=r"no fixtures at .*logprobs record"):
        Recordings(tmp_path / place)


def _edited(**changes: Any) -> bytes:
    line = json.loads(fixture_line(completions_answer()))
    return json.dumps({name: value for name, value in {**line, **changes}.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"no JSON", "is no recording"),
        (b"[1]", "is no recording"),
        (_edited(endpoint=...), "is no recording"),
        (_edited(body=...), "holds no answer"),
        (_edited(request=[1]), "is no recording"),
        (_edited(request={"prompt": "other"}), "its key .* is not that of its request"),
        (_edited(provider="other"), "its key .* is not that of its request"),
        (_edited(sample_index=1), "its key .* is not that of its request"),
        (b'{"fixture":2,"anything":"else"}', "has fixture version 2, this logprob-store reads 1"),
        (fixture_line(completions_answer())[:-20], "is no recording"),
        (b'{"fixture":1,"request":' + b"[" * 5000, "is no recording"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_the_error_of_a_wrong_line_names_it(tmp_path: Path, line: bytes, message: str) -> None:
    """The error has the file, the line number and the reason."""
    path = tmp_path / "f.jsonl"
    path.write_bytes(fixture_line(completions_answer("good")) + b"\n" + line + b"\n")

    with pytest.raises(FixtureError, match=f"f.jsonl, line 2: {message}"):
        Recordings(path)


def test_a_compressed_file_that_is_cut_off(tmp_path: Path) -> None:
    """Half a file is an error, not fewer recordings."""
    path = tmp_path / "f.jsonl.zst"
    _written(path, *(completions_answer(str(number)) for number in range(50)))
    path.write_bytes(path.read_bytes()[:-8])

    with pytest.raises(FixtureError, match=r"f\.jsonl\.zst cannot be read"):
        Recordings(path)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """The error names the file."""
    (tmp_path / "file").write_text("")

    with pytest.raises(FixtureError, match=r"file/f\.jsonl cannot be written"):
        write_fixtures(tmp_path / "file" / "f.jsonl", [completions_answer()])


def _plain(path: Path) -> bytes:
    raw = path.read_bytes()
    return zstandard.ZstdDecompressor().decompressobj().decompress(raw) if path.suffix == ".zst" else raw


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_committed_fixtures_give_nothing_away(path: Path) -> None:
    """They hold no keys, no tokens, no paths of home folders, no host names, and only allowed headers."""
    raw = _plain(path)

    for line in raw.splitlines():
        parsed = json.loads(line)
        assert parsed["headers"].keys() <= set(RECORDED)
        assert not re.search(r"https?:", parsed["provider"])
    assert not re.search(
        rb"sk-[A-Za-z0-9]{16}|[Bb]earer |eyJ[A-Za-z0-9_-]{10,}\.|hf_[A-Za-z0-9]{20}|AKIA[A-Z0-9]{16}", raw
    )
    assert not re.search(rb"(?i)/(?:home|users|root|tmp|var)/|C:\\\\|localhost|127\.0\.0\.1|@[a-z]+\.(?:com|org)", raw)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_committed_fixtures_decode_and_can_be_rebuilt(path: Path) -> None:
    """Every recording decodes, and its logprobs are rebuilt from the tables as they were."""
    answers = [
        fixture.answer(
            make_request(
                fixture.request,
                endpoint=fixture.endpoint,
                provider=fixture.provider,
                prompt_index=number,
                sample_index=fixture.sample_index,
            )
        )
        for number, fixture in enumerate(Recordings(path))
    ]
    bodies = [json.loads(answer.body) for answer in answers]
    expected = [
        part
        for body in bodies
        for part in (
            [body["answers"]]
            if "answers" in body
            else [choice.get("logprobs") for choice in sorted(body["choices"], key=lambda choice: choice["index"])]
        )
    ]

    decoded = decode_answers(answers)
    rebuilt = rebuild_logprobs(decoded.completions, decoded.tokens, decoded.alternatives, decoded.decisions)

    assert decoded.failures == []
    assert [rebuilt[number] for number in sorted(rebuilt)] == expected


def test_committed_fixtures_are_small() -> None:
    """They exist, and take less than 10 MB together."""
    assert COMMITTED
    assert sum(path.stat().st_size for path in COMMITTED) < 10_000_000
