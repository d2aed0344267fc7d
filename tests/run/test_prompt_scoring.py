"""Jobs that score given text: their requests and calls, and servers that do not score."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from builders import write_job, write_prompts

import logprob_store as ls
from logprob_store.errors import JobError, PromptsError, RunChangedError
from logprob_store.store.intervals import IntervalSet
from logprob_store.store.manifest import manifest_path, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

ROWS = {
    "id": ["fr", "sum", "jp"],
    "question": ["The capital of France is", "Two and two make ", "東京は何の"],
    "answers": [[" Paris", " London", " Rome"], ["four"], ["日本", "フランス"]],
}


class Quiz:
    """A folder with a quiz, its job, and runs of it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.put(ROWS)
        self.write()

    def put(self, rows: dict[str, Any]) -> None:
        """Write the prompts."""
        write_prompts(self.folder, rows)

    def write(
        self, *, continuations: str | None = "answers", sections: dict[str, Any] | None = None, **model: Any
    ) -> Path:
        """Write the job, with these sections, and with these keys added to [model]."""
        return write_job(
            self.folder,
            self.url,
            name="quiz",
            prompts={"id": "id", "prompt": "question", "continuations": continuations},
            model={"mode": "score", "endpoint": "completions", "provider": "test", **model},
            **(sections or {}),
        )

    def run(self, name: str = "r", limit: int | None = None) -> ls.RunSummary:
        """Run the job."""
        return ls.run_job(ls.load_job(self.folder / "job.toml"), run=name, limit=limit)

    @property
    def store(self) -> ls.Store:
        """What is stored."""
        return ls.open_store(self.folder / "store")

    @property
    def manifest(self) -> Any:
        """The manifest of run r."""
        return read_manifest(manifest_path(self.folder / "store", "r"))


@pytest.fixture
def quiz(tmp_path: Path, fault_server: Any) -> Quiz:
    """The quiz, asked of a fault server."""
    return Quiz(tmp_path, fault_server.url)


def many(count: int) -> dict[str, Any]:
    """The questions of a quiz, each with one answer."""
    return {
        "id": [str(n) for n in range(count)],
        "question": [f"Question {n}:" for n in range(count)],
        "answers": [[" yes"]] * count,
    }


# what is asked


def test_each_candidate_is_one_call(quiz: Quiz, fault_server: Any) -> None:
    """The request is the context with a candidate behind it, to be echoed without further tokens."""
    summary = quiz.run()

    bodies = sorted(fault_server.bodies, key=lambda body: body["prompt"])
    assert [body["prompt"] for body in bodies] == sorted(
        question + answer
        for question, answers in zip(ROWS["question"], ROWS["answers"], strict=True)
        for answer in answers
    )
    asked = {json.dumps({key: value for key, value in body.items() if key != "prompt"}) for body in bodies}
    assert [json.loads(body) for body in asked] == [{"model": "m", "logprobs": 5, "echo": True, "max_tokens": 0}]
    assert (summary.state, summary.total, summary.failures, summary.completions) == ("finished", 6, 0, 6)


def test_a_prompts_candidates_lie_together_in_their_order(quiz: Quiz) -> None:
    """The candidate is the sample index, and so a digit of the completion_id."""
    quiz.run()

    ids = quiz.store.completions.collect()["completion_id"].to_list()
    assert ids == [0, 1000, 2000, 100_000_000, 200_000_000, 200_001_000]


def test_what_was_asked_stands_in_the_prompts_table(quiz: Quiz) -> None:
    """Context and continuations are JSON in `messages`."""
    quiz.run()

    messages = [json.loads(text) for text in quiz.store.prompts.collect()["messages"]]
    assert messages == [
        {"context": question, "continuations": answers}
        for question, answers in zip(ROWS["question"], ROWS["answers"], strict=True)
    ]


def test_params_go_over_what_echo_needs(quiz: Quiz, fault_server: Any) -> None:
    """A server that refuses max_tokens = 0 gets 1; what it writes is content and is not scored."""
    quiz.run("zero")
    quiz.write(params={"max_tokens": 1})
    quiz.run("one")

    assert {body["max_tokens"] for body in fault_server.bodies[6:]} == {1}
    sections = quiz.store.tokens.group_by("run", "section").len().collect()
    assert sections.filter(section="content").rows() == [("one", "content", 6)]
    columns = ["prompt_id", "candidate", "loglikelihood"]
    scores = quiz.store.candidate_scores().sort("run", "prompt_index", "candidate").collect()
    assert scores.filter(run="one").select(columns).equals(scores.filter(run="zero").select(columns))


def test_prompt_logprobs_give_the_same_scores(quiz: Quiz, fault_server: Any) -> None:
    """With `prompt_logprobs` of vLLM one token is generated and not scored, and the scores are those of `echo`."""
    quiz.run("echo")
    quiz.write(score_by="prompt_logprobs", top_logprobs=5)
    summary = quiz.run("vllm")

    body = fault_server.bodies[-1]
    assert {key: body[key] for key in body if key != "prompt"} == {"model": "m", "prompt_logprobs": 5, "max_tokens": 1}
    assert summary.failures == 0
    scores = quiz.store.candidate_scores().sort("run", "prompt_index", "candidate").collect()
    columns = ["prompt_id", "candidate", "scored_tokens", "unscored_tokens", "loglikelihood", "rank", "greedy"]
    assert scores.filter(run="vllm").select(columns).equals(scores.filter(run="echo").select(columns))
    texts = quiz.store.text_scores().sort("run", "completion_id").drop("run").collect().partition_by("completion_id")
    assert all(both[0].equals(both[1]) for both in texts)


def test_the_text_itself_is_scored_without_continuations(quiz: Quiz, fault_server: Any) -> None:
    """One call a prompt; its perplexity is that of its own tokens."""
    quiz.write(continuations=None)
    quiz.run()

    assert sorted(body["prompt"] for body in fault_server.bodies) == sorted(ROWS["question"])
    scores = quiz.store.text_scores().sort("prompt_index").collect()
    assert scores["text"].to_list() == ROWS["question"]
    assert (scores["unscored_tokens"] == 1).all()
    assert quiz.store.candidate_scores().collect().is_empty()


def test_scores_are_those_of_the_server(quiz: Quiz) -> None:
    """A candidate's loglikelihood is the sum of its tokens' logprobs in the server's answer."""
    from fault_answers import logprob_after, pieces

    quiz.run()

    scores = quiz.store.candidate_scores().collect()
    for row in scores.iter_rows(named=True):
        context = ROWS["question"][row["prompt_index"]]
        before, expected = "", 0.0
        for piece in pieces(context + row["continuation"]):
            if len(before + piece) > len(context.rstrip()):
                expected += logprob_after(before, piece)
            before += piece
        assert row["loglikelihood"] == pytest.approx(expected, abs=1e-9)
    # No space ends the Japanese context of five letters: the server's second piece of four crosses.
    assert scores.group_by("prompt_id").agg(pl.col("straddles").any()).sort("prompt_id").rows() == [
        ("fr", False), ("jp", True), ("sum", False)
    ]  # fmt: skip


# which calls there are


def test_absent_candidates_leave_no_holes(quiz: Quiz) -> None:
    """Prompts are three numbers apart, as the longest list; the free numbers of a shorter list are settled."""
    quiz.run()

    manifest = quiz.manifest
    assert (manifest.samples, manifest.settled, manifest.absent) == (3, [(0, 9)], 3)


def test_a_second_session_asks_nothing(quiz: Quiz, fault_server: Any) -> None:
    """Progress counts the six calls, and no number without a call."""
    quiz.run()
    again = quiz.run()

    assert (again.total, again.already, again.calls, again.state) == (6, 6, 0, "finished")
    assert len(fault_server.calls) == 6


def test_numbers_do_not_depend_on_the_limit(quiz: Quiz, fault_server: Any) -> None:
    """A run of the rows with short lists goes on with the long one under the same numbers."""
    quiz.put({name: column[::-1] for name, column in ROWS.items()})
    first = quiz.run(limit=2)
    second = quiz.run()

    assert (first.total, first.completions) == (3, 3)
    assert (second.total, second.already, second.completions) == (6, 3, 6)
    assert max(Counter(body["prompt"] for body in fault_server.bodies).values()) == 1


def test_one_candidate_fails_and_is_asked_again(quiz: Quiz, fault_server: Any) -> None:
    """Only the candidate without an answer is asked again; until then its prompt has no choice."""
    fault_server.when("London", "400")
    first = quiz.run()
    open_choice = ls.choices(quiz.store.candidate_scores()).filter(prompt_id="fr").collect()
    second = quiz.run()

    assert (first.failures, second.failures, second.already) == (1, 0, 5)
    assert open_choice.select("candidates", "scored_candidates", "choice").row(0) == (3, 2, None)
    assert ls.choices(quiz.store.candidate_scores()).collect()["choice"].null_count() == 0
    assert len(fault_server.calls) == 7


def test_bad_lists_are_failures_of_their_row(quiz: Quiz, fault_server: Any) -> None:
    """A null or empty list is one failure, a null or empty text one for each call of the row; the others go on."""
    answers: list[Any] = [None, [], [" a", None], ["", " b"], [" yes", " no"]]
    quiz.put({"id": list("abcde"), "question": ["?"] * 5, "answers": answers})
    summary = quiz.run()

    failures = quiz.store.failures.sort("prompt_index", "sample_index").collect()
    assert failures.select("prompt_id", "sample_index", "error_type").rows() == [
        ("a", 0, "null_prompt"),
        ("b", 0, "bad_prompt"),
        ("c", 0, "bad_prompt"),
        ("c", 1, "bad_prompt"),
        ("d", 0, "bad_prompt"),
        ("d", 1, "bad_prompt"),
    ]
    assert "text 1 is null" in failures["message"][2]
    assert (summary.total, summary.completions, len(fault_server.calls)) == (8, 2, 2)


def test_a_column_of_plain_text_is_one_candidate_each(quiz: Quiz) -> None:
    """A continuation need not be in a list."""
    quiz.put({"id": ["a", "b"], "question": ["1 + 1 =", "2 + 2 ="], "answers": [" 2", " 4"]})
    quiz.run()

    scores = quiz.store.candidate_scores().sort("prompt_index").collect()
    assert scores.select("candidate", "continuation").rows() == [(0, " 2"), (0, " 4")]
    assert quiz.manifest.samples == 1


def test_more_candidates_than_can_be_numbered(quiz: Quiz) -> None:
    """A list that no completion_id can count is refused before anything is asked, with its row."""
    quiz.put({"id": ["a", "b"], "question": ["?", "?"], "answers": [["x"], ["x"] * 100_001]})

    with pytest.raises(PromptsError, match=r"prompts\.parquet, row 1: column 'answers' holds 100001 texts"):
        quiz.run()


def test_a_run_is_what_it_scores(quiz: Quiz) -> None:
    """Another way to score, or none, makes it another job, which needs another run."""
    quiz.run()
    quiz.write(score_by="prompt_logprobs")

    with pytest.raises(RunChangedError, match=r"model\.score_by is 'prompt_logprobs', was 'echo'"):
        quiz.run()


def test_intervals_are_merged_with_numbers() -> None:
    """Numbers added as intervals and numbers added one by one are one set."""
    done = IntervalSet([(0, 2)])
    done.update([4])
    done.update_intervals([(2, 4), (8, 10)])

    assert (done.intervals, len(done)) == ([(0, 5), (8, 10)], 7)


# servers that do not score


def test_a_server_that_ignores_echo_stops_the_run(quiz: Quiz, fault_server: Any) -> None:
    """After a handful of answers without the prompt's logprobs the run stops and says what to do."""
    quiz.put(many(600))
    fault_server.script("no_echo*600")
    summary = quiz.run()

    assert (summary.state, summary.completions) == ("stopped", 0)
    assert "none of the first" in (summary.reason or "")
    assert "the server ignores what asks for them" in (summary.reason or "")
    assert "prompt_logprobs" in (summary.reason or "")
    failures = quiz.store.failures.collect()
    assert set(failures["error_type"]) == {"echo_ignored"}
    assert 5 <= failures.height == len(fault_server.calls) <= 20
    assert quiz.store.tokens.collect().is_empty()


def test_all_zero_logprobs_stop_the_run(quiz: Quiz, fault_server: Any) -> None:
    """Answers with a logprob of 0.0 for every token stop the run as well, and are not in the tables."""
    quiz.put(many(600))
    fault_server.script("zeros*600")
    summary = quiz.run()

    assert summary.state == "stopped"
    assert "exactly 0.0" in (summary.reason or "")
    assert quiz.store.tokens.collect().is_empty()
    assert quiz.store.alternatives.collect().is_empty()


def test_the_run_goes_on_where_the_server_has_learnt_to_score(quiz: Quiz, fault_server: Any) -> None:
    """The bad answers are in the cache, and are asked for again."""
    quiz.put(many(30))
    fault_server.script("no_echo*30")
    first = quiz.run()
    fault_server.behaviour._script.clear()
    second = quiz.run()

    assert (first.state, second.state, second.failures, second.completions) == ("stopped", "finished", 0, 30)


def test_a_few_bad_answers_are_failures_and_no_more(quiz: Quiz, fault_server: Any) -> None:
    """Once an answer was scored, others that are not do not stop the run."""
    quiz.put(many(100))
    quiz.write(sections={"store": {"part_bytes": 4000}, "limits": {"concurrency": 4}})
    for n in range(60, 90):
        fault_server.when(f"Question {n}:", "no_echo" if n % 2 else "zeros")
    summary = quiz.run()

    assert (summary.state, summary.failures, summary.completions) == ("finished", 30, 70)


def test_a_text_of_one_token_is_no_zero(quiz: Quiz) -> None:
    """The only token of a text of one token has no logprob: it is an answer without a score."""
    quiz.put({"id": ["a"], "question": ["Hi"]})
    quiz.write(continuations=None)
    summary = quiz.run()

    assert (summary.failures, summary.completions) == (0, 1)
    assert quiz.store.text_scores().collect()["perplexity"].to_list() == [None]


def test_no_logprobs_at_all_is_the_same(quiz: Quiz, fault_server: Any) -> None:
    """A server that answers with logprobs null has ignored what asks for them too."""
    fault_server.script("null*6")
    quiz.run()

    assert quiz.store.failures.collect()["error_type"].to_list() == ["echo_ignored"] * 6


def test_generating_is_not_checked(quiz: Quiz, fault_server: Any) -> None:
    """A job that generates may have answers with zeros and without a prompt."""
    quiz.write(continuations=None, mode=None, params={"echo": True, "max_tokens": 0})
    fault_server.script("zeros*3")

    assert quiz.run().completions == 3


# the job file


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"endpoint": "chat"}, 'mode = "score" needs endpoint = "completions", not "chat"'),
        ({"endpoint": None}, 'mode = "score" needs endpoint = "completions"'),
        ({"mode": None}, 'prompts.continuations needs model.mode = "score"'),
        ({"mode": None, "score_by": "prompt_logprobs"}, 'score_by = "prompt_logprobs" needs mode = "score"'),
        ({"samples": 2}, "model.samples must be 1 with prompts.continuations"),
        ({"logprobs": False}, 'mode = "score" needs logprobs'),
        ({"params": {"echo": False}}, "params.echo = false contradicts"),
        ({"mode": "scores"}, "'generate' or 'score'"),
    ],
)
def test_contradictions_are_errors_of_the_job(quiz: Quiz, changes: dict[str, Any], message: str) -> None:
    """A contradictory setting is an error before anything is read."""
    path = quiz.write(**changes)

    with pytest.raises(JobError) as raised:
        ls.load_job(path)
    assert message in str(raised.value)


def test_a_generating_job_is_identified_as_before(quiz: Quiz) -> None:
    """Unused settings are not part of a job's identity, so that runs begun before there was scoring can go on."""
    path = quiz.write(continuations=None, mode=None)

    identity = ls.load_job(path).identity()
    assert not {"model.mode", "model.score_by", "prompts.continuations"} & identity.keys()


@pytest.mark.parametrize("params", [{"n": 2}, {"best_of": 3}])
def test_several_choices_cannot_be_scored(quiz: Quiz, fault_server: Any, params: dict[str, int]) -> None:
    """Each call scores one text once."""
    quiz.write(params=params)
    summary = quiz.run()

    assert summary.failures == 6
    assert "it must be 1" in quiz.store.failures.collect()["message"][0]
    assert fault_server.calls == []


def test_continuations_of_another_type_are_refused(quiz: Quiz) -> None:
    """Numbers are no text."""
    quiz.put({"id": ["a"], "question": ["?"], "answers": [[1, 2]]})

    with pytest.raises(PromptsError, match=r"column 'answers' \(prompts.continuations\) is .*expected a list of texts"):
        quiz.run()
