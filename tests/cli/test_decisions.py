"""A job of typed questions from its file to labels, calibration and comparison, against a server on this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from builders import write_job, write_prompts

import logprob_store as ls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUESTIONS = """
[[questions]]
name = "topic"
type = "choice"
instructions = "What is it about?"
choices = ["post", "money", {value = true, description = "both"}]

[[questions]]
name = "late"
type = "predicate"
instructions = "The parcel is late."

[[questions]]
name = "mood"
type = "score"
instructions = "How is the mood?"
levels = ["bad", "good"]
"""
PRICES = {"input_usd_per_million_tokens": 100, "output_usd_per_million_tokens": 400}


@pytest.fixture
def job(tmp_path: Path, fault_server: Any) -> Path:
    """A job of three questions about four prompts."""
    return job_at(tmp_path, fault_server.url)


def job_at(folder: Path, url: str, questions: str = QUESTIONS, **sections: Any) -> Path:
    """The job against the server at a URL."""
    texts = [f"Where is parcel {n}?" for n in range(4)]
    write_prompts(folder, {"id": list("abcd"), "text": texts, "topic": ["post"] * 3 + ["true"]})
    usual: dict[str, Any] = {
        "prompts": {"id": "id", "keep": ["topic"]},
        "model": {"endpoint": "decisions", "provider": "test"},
        "prices": PRICES,
    }
    path = write_job(folder, url, **usual, **sections)
    path.write_text(path.read_text() + questions)
    return path


def decisions(folder: Path) -> pl.DataFrame:
    """All decisions of the store."""
    return ls.open_store(folder / "store").decisions.collect()


def test_a_run_stores_the_options_of_each_question(job: Path, tmp_path: Path, logprobs: Any) -> None:
    """Four prompts with 3 options, true and false, and 2 levels; 40 tokens at $100 a million are $0.004 each."""
    code, out, _ = logprobs("run", job, "--run", "r")
    store = ls.open_store(tmp_path / "store")
    completions = store.completions.collect()

    assert code == 0
    assert "28 decisions" in out
    assert decisions(tmp_path).height == 28
    assert completions["cost_usd"].to_list() == pytest.approx([0.004] * 4)
    assert store.runs.collect()["decisions"].to_list() == [28]


def test_a_second_run_is_answered_from_the_cache(job: Path, fault_server: Any, logprobs: Any) -> None:
    """Equal questions about equal texts are one call."""
    logprobs("run", job, "--run", "r")
    code, out, _ = logprobs("run", job, "--run", "s", "--json")

    assert code == 0
    assert json.loads(out.splitlines()[-1])["from_cache"] == 4
    assert len(fault_server.calls) == 4


def test_recorded_decisions_are_replayed(job: Path, tmp_path: Path, logprobs: Any) -> None:
    """A replay makes no call and gives the same rows."""
    logprobs("run", job, "--run", "live")
    recorded = tmp_path / "recorded.jsonl"
    logprobs("record", job, "--fixtures", recorded)
    code, _, err = logprobs("run", job, "--run", "again", "--transport", "replay", "--fixtures", recorded)
    rows = decisions(tmp_path)

    assert code == 0, err
    one, other = (rows.filter(pl.col("run") == run).drop("run") for run in ("live", "again"))
    assert one.equals(other)


def test_recorded_decisions_are_imported(job: Path, tmp_path: Path, logprobs: Any) -> None:
    """Pairs of request and response give the same rows, and the endpoint is known from the request."""
    logprobs("run", job, "--run", "live")
    logprobs("record", job, "--fixtures", tmp_path / "recorded.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "recorded.jsonl").read_text().splitlines()]
    pairs = [{"request": line["request"], "response": line["body"]} for line in lines]
    (tmp_path / "pairs.jsonl").write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs))
    code, _, err = logprobs("import", tmp_path / "pairs.jsonl", "--store", tmp_path / "store", "--run", "imported")
    store = ls.open_store(tmp_path / "store", runs="imported")

    assert code == 0, err
    assert store.completions.collect()["endpoint"].unique().to_list() == ["decisions"]
    assert store.decisions.collect().height == 28


def test_a_ceiling_needs_no_maximum_of_output(tmp_path: Path, fault_server: Any, logprobs: Any) -> None:
    """Nothing is generated, so each call is bounded by its own bytes."""
    path = job_at(tmp_path, fault_server.url, limits={"max_cost_usd": 1.0})

    assert logprobs("run", path, "--run", "r").code == 0


def test_a_ceiling_that_a_call_could_pass_stops_the_run(tmp_path: Path, fault_server: Any, logprobs: Any) -> None:
    """The bytes of one request alone may cost more than $0.01."""
    path = job_at(tmp_path, fault_server.url, limits={"max_cost_usd": 0.01})

    assert logprobs("run", path, "--run", "r").code == 4
    assert fault_server.calls == []


def test_an_answer_without_decisions_is_a_failure(tmp_path: Path, fault_server: Any, logprobs: Any) -> None:
    """A server that answers with an empty list was paid and decided nothing."""
    fault_server.script("null*4")
    code, _, _ = logprobs("run", job_at(tmp_path, fault_server.url), "--run", "r")

    assert code in {3, 4}
    assert set(ls.open_store(tmp_path / "store").failures.collect()["error_type"]) == {"no_decisions"}


def test_a_server_without_the_endpoint_stops_the_run(tmp_path: Path, fault_server: Any, logprobs: Any) -> None:
    """The first 404 says what to do, and no other prompt is asked in vain."""
    path = job_at(tmp_path, fault_server.url.replace("/v1", "/v1/none"), limits={"concurrency": 1})
    fault_server.script("404*9")
    code, out, err = logprobs("run", path, "--run", "r")

    assert code == 4
    assert 'ask with model.endpoint = "chat"' in out + err


def test_refused_and_unanswered_questions_are_said(tmp_path: Path, fault_server: Any, logprobs: Any) -> None:
    """`labels` shows them without a label and counts them, and so does `status`."""
    questions = QUESTIONS.replace("The parcel", "refuse").replace("How is the mood", "skip")
    logprobs("run", job_at(tmp_path, fault_server.url, questions), "--run", "r")

    assert (
        "of 12 questions, refused: 4, without an answer that can be read: 4"
        in logprobs("labels", tmp_path / "store").out
    )
    assert "refused_questions" in logprobs("status", tmp_path / "store").out


def test_labels_of_a_question(job: Path, tmp_path: Path, logprobs: Any) -> None:
    """The likeliest option of each answer, or with --each all of them."""
    logprobs("run", job, "--run", "r")
    chosen = json.loads(logprobs("labels", tmp_path / "store", "--question", "topic", "--json").out)
    each = json.loads(logprobs("labels", tmp_path / "store", "--question", "topic", "--each", "--json").out)

    assert [row["label"] for row in chosen] == ["post"] * 4
    assert [row["label"] for row in each[:3]] == ["post", "money", "true"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--question", "topik"], "'topic'"),
        (["--labels", "a,b"], "leave --labels out"),
        (["--labels", "a,b", "--question", "topic"], "leave --labels out"),
    ],
)
def test_labels_that_cannot_be_asked_for(job: Path, tmp_path: Path, logprobs: Any, words: list[str], said: str) -> None:
    """The message names the questions, or the option to leave out."""
    logprobs("run", job, "--run", "r")
    code, _, err = logprobs("labels", tmp_path / "store", *words)

    assert code == 2
    assert said in err


def test_calibrate_holds_a_question_against_the_truth(job: Path, tmp_path: Path, logprobs: Any) -> None:
    """The likeliest topic is always "post", which is right in three of four."""
    logprobs("run", job, "--run", "r")
    code, out, err = logprobs("calibrate", tmp_path / "store", "--question", "topic", "--expected", "topic", "--json")
    figures = {row["metric"]: row["estimate"] for row in json.loads(out)["figures"]}

    assert code == 0, err
    assert figures["accuracy"] == 0.75


def test_calibrate_wants_one_question(job: Path, tmp_path: Path, logprobs: Any) -> None:
    """Of three questions the truth is that of one."""
    logprobs("run", job, "--run", "r")
    code, _, err = logprobs("calibrate", tmp_path / "store", "--expected", "topic")

    assert code == 2
    assert "name the question to judge" in err


def test_compare_pairs_questions(job: Path, tmp_path: Path, logprobs: Any) -> None:
    """Two runs from one cache differ in none of twelve questions, and the divergence of their options is 0."""
    logprobs("run", job, "--run", "r")
    logprobs("run", job, "--run", "s")
    code, out, _ = logprobs("compare", tmp_path / "store", "r", "s", "--json")
    said = json.loads(out)

    assert (code, said["copied"]) == (6, 12)
    assert said["pairs"] == 12
    assert {row["metric"]: row["estimate"] for row in said["metrics"]}["mean_js"] == 0
    assert said["sampled"] == []


def test_compare_sees_a_question_that_is_answered_otherwise(
    tmp_path: Path, fault_server: Any, logprobs: Callable[..., Any]
) -> None:
    """With the options turned round, another one is the likeliest of each answer."""
    logprobs("run", job_at(tmp_path, fault_server.url), "--run", "r")
    turned = QUESTIONS.replace('["post", "money",', '["money", "post",')
    logprobs("run", job_at(tmp_path, fault_server.url, turned), "--run", "s")
    code, out, _ = logprobs("compare", tmp_path / "store", "r", "s", "--json")
    flipped = [row for row in json.loads(out)["prompts"] if row["flip"]]

    assert code in {0, 5}
    assert {(row["answer_a"], row["answer_b"]) for row in flipped} == {("topic: post", "topic: money")}


def test_scores_and_sql_show_the_questions(job: Path, tmp_path: Path, logprobs: Any) -> None:
    """`scores` has a row for each question, and `sql` the tables decisions and decided."""
    logprobs("run", job, "--run", "r")
    query = "select count(*) as n, count(distinct question) as questions from decided"

    assert len(json.loads(logprobs("scores", tmp_path / "store", "--json").out)) == 12
    assert json.loads(logprobs("sql", tmp_path / "store", query, "--json").out) == [{"n": 12, "questions": 3}]


def test_verify_knows_the_table(job: Path, tmp_path: Path, logprobs: Any) -> None:
    """A file of decisions that is gone is named."""
    logprobs("run", job, "--run", "r")
    next((tmp_path / "store").glob("decisions/**/*.parquet")).unlink()
    code, out, err = logprobs("verify", tmp_path / "store")

    assert code != 0
    assert "decisions" in out + err


def test_the_newest_answers_have_their_decisions(job: Path, tmp_path: Path, logprobs: Any) -> None:
    """Of two runs of one job, `latest` has the options of the second alone."""
    logprobs("run", job, "--run", "r")
    logprobs("run", job, "--run", "s")

    assert ls.open_store(tmp_path / "store").latest.decisions.collect()["run"].unique().to_list() == ["s"]


def test_the_doctor_asks_one_question(job: Path, logprobs: Any) -> None:
    """One call is made, and its questions are counted."""
    code, out, _ = logprobs("doctor", job)

    assert code == 0
    assert "3 of 3 questions decided" in out


def test_show_lists_the_options_of_an_answer(job: Path, tmp_path: Path, logprobs: Any) -> None:
    """In place of coloured tokens, of which there are none, stand the questions with their options."""
    logprobs("run", job, "--run", "r")
    out = logprobs("show", tmp_path / "store", "a").out
    [row] = json.loads(logprobs("show", tmp_path / "store", "a", "--json").out)

    assert "money" in out
    assert "unscored" not in out
    assert len(row["decisions"]) == 7


def test_files_have_the_questions_in_the_order_asked(job: Path, tmp_path: Path, logprobs: Any) -> None:
    """Each answer has its questions together, as they were asked."""
    logprobs("run", job, "--run", "r")
    for command in ("labels", "scores"):
        logprobs(command, tmp_path / "store", "-o", tmp_path / "rows.jsonl")
        asked = pl.read_ndjson(tmp_path / "rows.jsonl")["question"].to_list()

        assert asked == ["topic", "late", "mood"] * 4, command


def test_questions_are_not_compared_with_texts(job: Path, tmp_path: Path, fault_server: Any, logprobs: Any) -> None:
    """A run of chat has no options, and the message says so in place of a flip for each prompt."""
    logprobs("run", job, "--run", "r")
    write_job(tmp_path, fault_server.url, prompts={"id": "id"}, store={"path": "store"})
    logprobs("run", tmp_path / "job.toml", "--run", "s")
    code, _, err = logprobs("compare", tmp_path / "store", "r", "s")

    assert code == 2
    assert "run 'r' asked typed questions and run 's' did not" in err


def test_labels_have_to_be_named_where_nothing_was_asked(tmp_path: Path, fault_server: Any, logprobs: Any) -> None:
    """Without typed questions there are no labels to take."""
    write_prompts(tmp_path, {"text": ["Hi"]})
    logprobs("run", write_job(tmp_path, fault_server.url), "--run", "r")

    with pytest.raises(ls.InputError, match="name the labels"):
        ls.open_store(tmp_path / "store").labels()
    assert "name the labels" in logprobs("labels", tmp_path / "store").err


def test_truths_that_are_no_label(job: Path, tmp_path: Path, logprobs: Any) -> None:
    """An accuracy of 0 would look like a bad model."""
    logprobs("run", job, "--run", "r")

    wrong = logprobs("calibrate", tmp_path / "store", "--question", "mood", "--expected", "topic")
    right = logprobs("calibrate", tmp_path / "store", "--question", "topic", "--expected", "topic")

    assert "no value of topic is a label of the question 'mood'" in wrong.err
    assert "its labels are 0, 1, bad, good; topic has post, true" in wrong.err
    assert "is a label of" not in right.err


def test_a_text_and_a_boolean_are_shown_apart(tmp_path: Path, fault_server: Any, logprobs: Any) -> None:
    """Both are spelled true."""
    question = '[[questions]]\nname = "q"\ntype = "choice"\ninstructions = "?"\nchoices = ["true", true]\n'
    logprobs("run", job_at(tmp_path, fault_server.url, question), "--run", "r")

    shown = logprobs("show", tmp_path / "store", "a").out

    assert '"true"' in shown
    assert shown.replace('"true"', "").count("true") >= 1


def test_an_import_of_decisions_counts_them(job: Path, tmp_path: Path, logprobs: Any) -> None:
    """They have no tokens."""
    logprobs("record", job, "--fixtures", tmp_path / "fixtures")

    done = logprobs("import", tmp_path / "fixtures" / "job.jsonl", "--store", tmp_path / "imported", "--run", "r")

    assert "4 completions with 28 decisions in" in done.out
