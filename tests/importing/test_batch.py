"""Batch API output: requests found by custom_id and never by position, lines that failed, missing lines."""

from __future__ import annotations

import json
from typing import Any

import pytest
from importing.recorded import input_line, output_line, recorded_body, recorded_request


def test_requests_are_found_by_custom_id(importing: Any) -> None:
    """In any order of lines and files, each answer gets the messages of its own request."""
    numbers = list(range(40))
    inputs = [input_line(f"id-{n}", recorded_request(n)) for n in numbers]
    outputs = [output_line(f"id-{n}", recorded_body(n)) for n in numbers]
    outputs = outputs[7:] + outputs[:7]
    inputs.reverse()
    output, asked = importing.jsonl("out.jsonl", *outputs), importing.jsonl("in.jsonl", *inputs)
    done = importing(output, asked)
    rows = importing.frames()
    both = rows["completions"].join(rows["prompts"], on=["prompt_index", "prompt_id"])

    assert (done.records, done.failures) == (40, 0)
    assert both.height == 40
    assert both["source"].unique().to_list() == ["batch"]
    for row in both.iter_rows(named=True):
        number = int(row["prompt_id"].removeprefix("id-"))
        assert row["text"] == f"n{number}!"
        assert json.loads(row["messages"]) == recorded_request(number)["messages"]


def test_output_alone(importing: Any) -> None:
    """Without the input file the answers are imported under their custom_ids."""
    importing.lines(output_line("b", recorded_body(1)), output_line("a", recorded_body(0)))
    rows = importing.frames()

    assert rows["completions"]["prompt_id"].to_list() == ["b", "a"]
    assert rows["prompts"]["messages"].to_list() == [None, None]


def test_lines_that_failed(importing: Any) -> None:
    """A 4xx status with `error: null`, an expired line, a refusal and a line without an error become failure rows."""
    error = {"error": {"message": "Invalid value for temperature", "type": "invalid_request_error", "code": None}}
    refusal = {"error": {"message": "You are not allowed to request logprobs from this model"}}
    expired = {"code": "batch_expired", "message": "This request could not be executed before the batch expired."}
    importing.lines(
        output_line("bad", error, status=400),
        {"id": "r", "custom_id": "late", "response": None, "error": expired},
        output_line("refused", refusal, status=403),
        {"id": "r", "custom_id": "odd", "response": None, "error": None},
        output_line("good", recorded_body(0)),
    )
    failures = importing.frames()["failures"].sort("prompt_index")

    assert importing.open_failures == [
        ("bad", "invalid_request"),
        ("late", "batch_expired"),
        ("refused", "logprobs_refused"),
        ("odd", "no_answer"),
    ]
    assert failures["status"].to_list() == [400, None, 403, None]
    assert "Invalid value for temperature" in failures["message"][0]
    assert "before the batch expired" in failures["message"][1]
    assert importing.texts == ["n0!"]


def test_an_error_in_place_of_an_answer(importing: Any) -> None:
    """A body that reports an error is a failure, whatever its status."""
    importing.lines(output_line("a", {"error": {"message": "overloaded"}}))

    assert importing.open_failures == [("a", "error_body")]


def test_requests_without_a_line(importing: Any) -> None:
    """A request without an answer is a failure until a later file answers it."""
    asked = importing.jsonl("in.jsonl", *(input_line(str(n), recorded_request(n)) for n in range(3)))
    output = importing.jsonl("out.jsonl", output_line("1", recorded_body(1)))
    importing(asked, output)
    first = importing.open_failures
    again = importing(asked, output)
    rest = importing(asked, importing.jsonl("rest.jsonl", output_line("0", recorded_body(0))))

    assert first == [("0", "no_answer"), ("2", "no_answer")]
    assert (again.added, dict(again.problems)) == (0, {})
    assert rest.failures == 1
    assert importing.open_failures == [("2", "no_answer")]
    assert importing.frames()["prompts"].height == 3


def test_lines_without_a_request(importing: Any) -> None:
    """An answer whose custom_id is in no input file is imported without messages."""
    asked = importing.jsonl("in.jsonl", input_line("0", recorded_request(0)))
    importing(asked, importing.jsonl("out.jsonl", output_line("1", recorded_body(1))))

    assert importing.texts == ["n1!"]
    assert importing.open_failures == [("0", "no_answer")]


def test_a_retry_replaces_a_failure_in_either_order(importing: Any) -> None:
    """A prompt that failed in one batch and succeeded in another is a success, whichever file is read first."""
    error = {"error": {"message": "try later"}}
    failed = importing.jsonl("first.jsonl", output_line("a", error, status=500))
    good = importing.jsonl("second.jsonl", output_line("a", recorded_body(0)))
    for run, files in (("one", [failed, good]), ("other", [good, failed])):
        done = importing(*files, run=run)
        rows = importing.frames(run)

        assert (done.failures, rows["failures"].height, rows["prompts"].height) == (0, 0, 1)
        assert rows["completions"].select("prompt_index", "sample_index").rows() == [(0, 0)]
    importing(failed)
    importing(good)

    assert importing.open_failures == []


def test_a_later_answer_replaces_an_undecodable_one(importing: Any) -> None:
    """An answer without logprobs is a failure until a later file has one with them, which takes its sample index."""
    importing.lines(output_line("a", recorded_body(0, logprobs=False)), name="one.jsonl")
    before = importing.open_failures
    importing.lines(output_line("a", recorded_body(1)), name="two.jsonl")

    assert before == [("a", "no_logprobs")]
    assert importing.open_failures == []
    assert importing.frames()["completions"].select("prompt_index", "sample_index").rows() == [(0, 0)]


def test_one_custom_id_twice(importing: Any) -> None:
    """The same line twice is one answer; two different answers under one id are two samples."""
    lines = [output_line("a", recorded_body(0)), output_line("a", recorded_body(0)), output_line("a", recorded_body(1))]
    done = importing.lines(*lines)

    assert (done.added, done.already) == (2, 1)
    assert importing.texts == ["n0!", "n1!"]
    assert importing.frames()["completions"]["sample_index"].to_list() == [0, 1]


def test_one_custom_id_for_several_requests(importing: Any) -> None:
    """If the input files have different requests under one id, none is chosen, and the summary counts the answer."""
    asked = importing.jsonl("in.jsonl", *(input_line("a", recorded_request(n)) for n in range(2)))
    done = importing(asked, importing.jsonl("out.jsonl", output_line("a", recorded_body(0))))

    assert done.ambiguous == 1
    assert importing.frames()["prompts"]["messages"].to_list() == [None]
    assert importing.texts == ["n0!"]


def test_two_batches_that_count_from_zero(importing: Any) -> None:
    """Two batches with the same ids but different requests are different prompts."""
    for batch in range(2):
        asked = importing.jsonl("in.jsonl", input_line("0", recorded_request(batch)))
        importing(asked, importing.jsonl("out.jsonl", output_line("0", recorded_body(batch))))
    rows = importing.frames()

    assert rows["completions"].select("prompt_index", "sample_index").rows() == [(0, 0), (1, 0)]
    assert [json.loads(text) for text in rows["prompts"]["messages"]] == [
        recorded_request(batch)["messages"] for batch in range(2)
    ]


def test_a_request_that_asked_for_no_logprobs(importing: Any) -> None:
    """If its request did not ask for logprobs, an answer without them is a completion without tokens."""
    asked = importing.jsonl("in.jsonl", input_line("a", recorded_request(0, logprobs=False)))
    importing(asked, importing.jsonl("out.jsonl", output_line("a", recorded_body(0, logprobs=False))))

    assert importing.frames()["completions"]["token_count"].to_list() == [0]
    assert importing.open_failures == []


def test_a_request_among_responses_is_a_failure(importing: Any) -> None:
    """A request in the middle of a file of answers becomes a failure row."""
    importing.lines(output_line("a", recorded_body(0)), input_line("b", recorded_request(1)))

    assert importing.open_failures == [("b", "bad_line")]
    assert importing.texts == ["n0!"]


def test_a_damaged_input_file(importing: Any) -> None:
    """A bad line of an input file becomes a failure row; the other lines are used."""
    asked = importing.jsonl("in.jsonl", input_line("0", recorded_request(0)), "oops")
    importing(asked, importing.jsonl("out.jsonl", output_line("0", recorded_body(0))))

    assert importing.open_failures == [("in.jsonl:2", "bad_line")]
    assert json.loads(importing.frames()["prompts"].sort("prompt_id")["messages"][0]) == recorded_request(0)["messages"]


@pytest.mark.parametrize("sessions", [1, 5], ids=["at once", "one by one"])
@pytest.mark.parametrize("order", ["ffaff", "affff", "ffffa", "faaff"])
def test_each_failure_of_a_prompt_is_a_row(importing: Any, order: str, sessions: int) -> None:
    """Of several attempts each answer takes the place of one failure, and all others are open, in whatever order."""
    lines = [
        output_line("x", recorded_body(n))
        if kind == "a"
        else output_line("x", {"error": {"message": f"full {n}"}}, status=500)
        for n, kind in enumerate(order)
    ]
    size = len(lines) // sessions
    for n in range(0, len(lines), size):
        done = importing.lines(*lines[n : n + size], name=f"{n}.jsonl")
    rows = importing.frames()
    answers = order.count("a")

    assert done.failures == len(importing.open_failures) == len(order) - 2 * answers
    assert rows["failures"].select("prompt_index", "sample_index").n_unique() == len(order) - 2 * answers
    assert rows["completions"].height == answers
    assert rows["prompts"].height == 1


def test_a_refusal_without_a_body_has_the_words_of_its_error(importing: Any) -> None:
    """VLLM's batch runner writes them beside an empty response (vllm-project/vllm pull request 8347)."""
    line = output_line("a", None, status=400)
    line["error"] = {"message": "stream is not supported", "type": "BadRequestError", "code": 400}
    importing.lines(line)

    assert importing.frames()["failures"]["message"].to_list() == ["HTTP 400: stream is not supported"]
