"""Torn, glued and comma-ended JSON gives all answers before and behind the damage, and one failure for it."""

from __future__ import annotations

import bz2
import json
import lzma
from typing import Any

import pytest
from importing.recorded import jsonl, recorded_body, recorded_request

from logprob_store.importing import json_values

COUNT = 7
TORN = 3


@pytest.fixture
def bodies() -> list[str]:
    """Answers as JSON, a line each."""
    return [json.dumps(recorded_body(number)) for number in range(COUNT)]


@pytest.mark.parametrize("cut", [1, 2, 9, 30, 100, 200, 300, 400])
@pytest.mark.parametrize("between", ["", "\n"], ids=["glued to the next", "a line of its own"])
def test_a_torn_line(importing: Any, bodies: list[str], cut: int, between: str) -> None:
    """A program was killed while it wrote a line, and the next one went on behind it."""
    before, behind = bodies[:TORN], bodies[TORN + 1 :]
    importing.content("\n".join([*before, bodies[TORN][:cut] + between + behind[0], *behind[1:]]) + "\n")

    assert importing.texts == [f"n{number}!" for number in range(COUNT) if number != TORN]
    assert [error_type for _, error_type in importing.open_failures] == ["bad_line"]


@pytest.mark.parametrize("joint", [",\n", ", "])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_without_its_end(importing: Any, joint: str, indent: int | None) -> None:
    """A program was killed while it wrote a list: the elements before are answers."""
    bodies = [json.dumps(recorded_body(number), indent=indent) for number in range(COUNT)]
    importing.content(f"[{joint.join(bodies)}"[:-40], name="list.json")

    assert importing.texts == [f"n{number}!" for number in range(COUNT - 1)]
    assert importing.open_failures == [("list.json:1[6]", "bad_line")]


def test_a_list_that_ends_between_two_elements(importing: Any, bodies: list[str]) -> None:
    """Nothing is half there, but the list has no end, and that is said."""
    importing.content("[\n" + ",\n".join(bodies) + ",\n", name="list.json")

    assert len(importing.texts) == COUNT
    assert "the list has no end" in importing.frames()["failures"]["message"][0]


@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_torn_in_the_middle(importing: Any, indent: int | None) -> None:
    """The elements behind the tear keep their places."""
    bodies = [json.dumps(recorded_body(number), indent=indent) for number in range(COUNT)]
    torn = [*bodies[:TORN], bodies[TORN][:150] + bodies[TORN + 1], *bodies[TORN + 2 :]]
    importing.content(f"[{', '.join(torn)}]", name="list.json")

    assert importing.texts == [f"n{number}!" for number in range(COUNT) if number != TORN]
    assert importing.open_failures == [("list.json:1[3]", "bad_line")]


@pytest.mark.parametrize(
    "write",
    [
        "".join,
        ",".join,
        ",\n".join,
        lambda bodies: ",\n".join(bodies) + ",\n",
        lambda bodies: "[\n" + ",\n".join(bodies) + ",\n]",
        lambda bodies: "[" + ", ".join(bodies) + ",]",
        lambda bodies: "".join(f"[{body}]" for body in bodies),
        lambda bodies: "\n".join(bodies) + "\n" + "\0" * 5000,
        lambda bodies: "\n".join(bodies[:2]) + "\n" + "\0" * 70 + "\n".join(bodies[2:]),
    ],
    ids=[
        "glued",
        "comma between",
        "comma-ended lines",
        "comma behind the last line",
        "comma behind the last element",
        "the same on one line",
        "glued lists",
        "NULs at the end",
        "NULs in between",
    ],
)
def test_nothing_is_lost_where_only_separators_are_wrong(importing: Any, bodies: list[str], write: Any) -> None:
    """Every answer is whole, so there is no failure."""
    done = importing.content(write(bodies))

    assert importing.texts == [f"n{number}!" for number in range(COUNT)]
    assert done.failures == 0


def test_control_characters_in_a_text(importing: Any, bodies: list[str]) -> None:
    """JSON forbids them in texts, and some servers send them all the same."""
    importing.content(bodies[0].replace("n0!", "n\x0b0!") + "\n" + bodies[1] + "\n")

    assert importing.texts == ["n\x0b0!", "n1!"]


def test_parts_of_a_torn_pair_are_no_answers(importing: Any) -> None:
    """The whole response inside a torn pair has lost its request, and is not taken for an answer by itself."""
    pairs = [json.dumps({"request": recorded_request(n), "response": recorded_body(n)}) for n in range(3)]
    importing.content(pairs[0] + "\n" + pairs[1][:-1] + pairs[2] + "\n")

    assert importing.texts == ["n0!", "n2!"]
    assert len(importing.open_failures) == 1


def test_values_behind_a_tear_are_found_in_a_small_window(importing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the blocks that are read, and whatever is cut by their ends."""
    monkeypatch.setattr(json_values, "_LONGEST_DOCUMENT", 1)
    monkeypatch.setattr(json_values, "_BLOCK", 7)
    bodies = [json.dumps(recorded_body(number), indent=1, ensure_ascii=False) for number in range(5)]
    bodies[1] = bodies[1].replace("n1", "é1")
    importing.content("[" + ",\n".join([bodies[0], bodies[1], bodies[2][:200] + bodies[3], bodies[4]]) + "]")

    assert [text[1:] for text in importing.texts] == ["0!", "1!", "3!", "4!"]


def test_a_long_line_is_read_value_by_value(importing: Any, bodies: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line longer than what is read at once is a list like any other."""
    monkeypatch.setattr(json_values, "LONGEST_LINE", 300)
    monkeypatch.setattr(json_values, "_LONGEST_DOCUMENT", 301)
    importing.content(f"[{', '.join(bodies)}]\n{bodies[0].replace('n0', 'x')}\n")

    assert importing.texts[:COUNT] == [f"n{number}!" for number in range(COUNT)]
    assert len(importing.texts) == COUNT + 1


def test_a_value_beyond_the_limit_is_a_failure(
    importing: Any, bodies: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that never ends is read in bounded memory; what follows is imported."""
    monkeypatch.setattr(json_values, "LONGEST_LINE", 1000)
    monkeypatch.setattr(json_values, "_LONGEST_DOCUMENT", 1)
    monkeypatch.setattr(json_values, "LONGEST_VALUE", 5000)
    importing.content('{"a": "' + "x" * 300_000 + "\n" + bodies[0] + "\n")

    assert importing.texts == ["n0!"]
    assert len(importing.open_failures) == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_encodings(importing: Any, encoding: str) -> None:
    """A byte order mark, or a NUL beside the first brace, tells the encoding."""
    body = recorded_body(0)
    body["choices"][0]["message"]["content"] = "né!"
    importing.content((json.dumps(body, ensure_ascii=False) + "\n").encode(encoding))

    assert importing.texts == ["né!"]


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_bzip2_and_xz(importing: Any, pack: Any) -> None:
    """The content tells; several compressed pieces in sequence are read, too."""
    importing.content(pack(jsonl(recorded_body(0)).encode()) + pack(jsonl(recorded_body(1)).encode()))

    assert importing.texts == ["n0!", "n1!"]


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_a_truncated_archive(importing: Any, pack: Any) -> None:
    """What came before its damaged end is imported, and the damage is a failure."""
    packed = pack(jsonl(*(recorded_body(number) for number in range(4_000))).encode())
    done = importing.content(packed[: -len(packed) // 3])

    assert done.added > 0
    assert dict(done.problems) == {"bad_line": 1}
