"""The plan of a job: which calls it makes, in which order, under which numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from builders import write_prompts

from logprob_store.errors import PromptError, PromptsError
from logprob_store.run.plan import check_plan, plan_job, request_of_job

if TYPE_CHECKING:
    from collections.abc import Iterable

    from logprob_store.run.plan import Chunk, Plan

ABC: dict[str, Any] = {"text": ["a", "b", "c"]}
TWICE = {"samples": 2}
SCORED: dict[str, dict[str, Any]] = {
    "prompts": {"continuations": "candidates"},
    "model": {"endpoint": "completions", "mode": "score", "params": {}},
}


def calls(chunks: Iterable[Chunk]) -> list[tuple[int, int]]:
    """The prompt and the sample of each request."""
    return [(request.prompt_index, request.sample_index) for chunk in chunks for request in chunk.requests]


def numbers(plan: Plan, chunks: Iterable[Chunk]) -> list[int]:
    """The call number of each request."""
    return [plan.number_of(request) for chunk in chunks for request in chunk.requests]


def test_calls_are_numbered_prompt_by_prompt(make: Any) -> None:
    """With two samples each, prompt i has the numbers 2 i and 2 i + 1."""
    plan = plan_job(make(ABC, model=TWICE))

    assert (plan.prompt_count, plan.calls_per_prompt, plan.call_count) == (3, 2, 6)
    assert calls(plan.chunks()) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert numbers(plan, plan.chunks()) == [0, 1, 2, 3, 4, 5]


def test_the_samples_of_a_prompt_have_different_keys(make: Any) -> None:
    """The same question is asked twice, so that its two answers are two."""
    (chunk,) = plan_job(make({"text": ["a"]}, model=TWICE)).chunks()

    first, second = chunk.requests
    assert first.body == second.body
    assert first.key != second.key


def test_a_chunk_has_500_prompts_at_most(make: Any) -> None:
    """Memory does not grow with the number of prompts: 501 come as 500 and 1."""
    chunks = list(plan_job(make({"text": ["a"] * 501})).chunks())

    assert [len(chunk.requests) for chunk in chunks] == [500, 1]
    assert [chunk.prompts_read for chunk in chunks] == [500, 501]


def test_settled_calls_are_left_out(make: Any) -> None:
    """Of the calls 0 to 5, those that are settled are not made."""
    plan = plan_job(make(ABC, model=TWICE))

    assert numbers(plan, plan.chunks(settled={0, 3, 4})) == [1, 2, 5]


def test_settled_calls_are_made_again_if_they_are_to_be(make: Any) -> None:
    """Settled calls that are in `again` are made, and no other settled call is."""
    plan = plan_job(make(ABC, model=TWICE))

    assert numbers(plan, plan.chunks(settled=range(6), again={1, 4})) == [1, 4]


def test_skipped_prompts_are_passed_over(make: Any) -> None:
    """The first two prompts give neither calls nor rows; the third keeps its number."""
    plan = plan_job(make(ABC, model=TWICE))

    (chunk,) = plan.chunks(skip=2)

    assert numbers(plan, [chunk]) == [4, 5]
    assert chunk.prompts["prompt_index"].to_pylist() == [2]


def test_a_limit_counts_prompts(make: Any) -> None:
    """Two of three prompts are four of six calls."""
    plan = plan_job(make(ABC, model=TWICE), limit=2)

    assert (plan.prompt_count, plan.call_count) == (2, 4)
    assert numbers(plan, plan.chunks()) == [0, 1, 2, 3]


def test_a_limit_above_the_number_of_prompts_changes_nothing(make: Any) -> None:
    """The plan has the three prompts that there are."""
    assert plan_job(make(ABC), limit=99).prompt_count == 3


def test_a_limit_counts_skipped_prompts_too(make: Any) -> None:
    """With the first prompt skipped, a limit of two leaves the second."""
    plan = plan_job(make(ABC), limit=2)

    assert calls(plan.chunks(skip=1)) == [(1, 0)]


def test_each_candidate_is_a_call_and_the_numbers_it_lacks_are_absent(make: Any) -> None:
    """With 2, 3 and 1 candidates there is room for 3 calls each: the numbers 2, 7 and 8 belong to none."""
    plan = plan_job(make({"text": ["a", "b", "c"], "candidates": [["x", "y"], ["x", "y", "z"], ["x"]]}, **SCORED))

    (chunk,) = plan.chunks()

    assert (plan.calls_per_prompt, plan.call_count) == (3, 6)
    assert numbers(plan, [chunk]) == [0, 1, 3, 4, 5, 6]
    assert chunk.absent == [(2, 3), (7, 9)]
    assert [request.body["prompt"] for request in chunk.requests] == ["ax", "ay", "bx", "by", "bz", "cx"]


def test_a_limit_leaves_the_numbers_as_they_are(make: Any) -> None:
    """The second prompt has the most candidates; a limit of one must not make prompt 1 begin at another number."""
    prompts = {"text": ["a", "b"], "candidates": [["x", "y"], ["x", "y", "z"]]}

    plan = plan_job(make(prompts, **SCORED), limit=1)

    assert (plan.calls_per_prompt, plan.call_count) == (3, 2)


def test_rows_that_the_prompts_table_has_are_not_given_again(make: Any) -> None:
    """A prompt whose call is made again has its row already."""
    plan = plan_job(make(ABC))

    (chunk,) = plan.chunks(prompts_read=2)

    assert calls([chunk]) == [(0, 0), (1, 0), (2, 0)]
    assert chunk.prompts["prompt_index"].to_pylist() == [2]
    assert chunk.prompts_read == 3


def test_prompt_rows_have_the_kept_columns(make: Any) -> None:
    """The table has the id, the messages as JSON, and what the job keeps."""
    job = make({"text": ["a"], "n": ["id-a"], "year": [1999]}, prompts={"id": "n", "keep": ["year"]})

    (chunk,) = plan_job(job).chunks()

    assert chunk.prompts.to_pylist() == [
        {"prompt_id": "id-a", "prompt_index": 0, "messages": '[{"role":"user","content":"a"}]', "year": 1999}
    ]


def test_a_row_that_cannot_be_asked_is_bad_in_each_sample(make: Any) -> None:
    """A null prompt gives two calls that cannot be made, and a row without messages."""
    plan = plan_job(make({"text": ["a", None]}, model=TWICE))

    (chunk,) = plan.chunks()

    assert calls([chunk]) == [(0, 0), (0, 1)]
    assert [(bad.prompt_index, bad.sample_index) for bad in chunk.bad] == [(1, 0), (1, 1)]
    assert {bad.problem.error_type for bad in chunk.bad} == {"null_prompt"}
    assert chunk.prompts["messages"].to_pylist()[1] is None


def test_ids_that_are_not_unique_are_found_by_the_check_alone(make: Any) -> None:
    """Planning looks at columns only; the check reads the ids, and names the one that is there twice."""
    plan = plan_job(make({"text": ["a", "b"], "n": ["same", "same"]}, prompts={"id": "n"}))

    with pytest.raises(PromptsError, match="same"):
        check_plan(plan)


def test_a_missing_column_is_found_before_anything_is_asked(make: Any) -> None:
    """The error names it."""
    with pytest.raises(PromptsError, match="text"):
        plan_job(make({"words": ["a"]}))


def test_a_request_has_the_job_s_body_and_the_prompt_s_place(make: Any) -> None:
    """The row's parameters override the job's; what is asked of logprobs stands between prompt and parameters."""
    job = make(ABC, model={"params": {"temperature": 0, "max_tokens": 3}})
    messages = [{"role": "user", "content": "Hi"}]

    request = request_of_job(
        job, messages, provider="somebody", params={"temperature": 1}, prompt_index=7, prompt_id="x", sample_index=2
    )

    assert request.body == {
        "model": "m",
        "messages": messages,
        "logprobs": True,
        "top_logprobs": 2,
        "temperature": 1,
        "max_tokens": 3,
    }
    assert (request.provider, request.prompt_index, request.prompt_id, request.sample_index) == ("somebody", 7, "x", 2)


def test_a_request_for_scores_writes_nothing(make: Any) -> None:
    """`echo` returns the logprobs of the text; no token is asked for beside it."""
    request = request_of_job(make({"text": ["a"], "candidates": [["x"]]}, **SCORED), "a b", provider="p")

    assert request.body == {"model": "m", "prompt": "a b", "logprobs": 2, "echo": True, "max_tokens": 0}


def test_a_request_for_scores_has_one_choice(make: Any) -> None:
    """Two choices would score the same text twice."""
    job = make({"text": ["a"], "candidates": [["x"]]}, **SCORED)

    with pytest.raises(PromptError, match=r"params\.n is 2"):
        request_of_job(job, "a b", provider="p", params={"n": 2})


def test_under_a_ceiling_a_row_asks_for_the_jobs_model(make: Any) -> None:
    """The job's prices are those of its model: a row that names another is refused."""
    job = make(
        {"text": ["a", "b"], "p": ['{"model": "dearer"}', None]},
        prompts={"params": "p"},
        model={"params": {"max_tokens": 5}},
        limits={"max_tokens": 1000},
    )

    (chunk,) = plan_job(job).chunks()

    assert [bad.prompt_index for bad in chunk.bad] == [0]
    assert "ask for the model 'dearer'" in str(chunk.bad[0].problem)
    assert len(chunk.requests) == 1


def test_under_a_ceiling_of_tokens_a_request_needs_a_maximum(make: Any) -> None:
    """A row may take the maximum away; then that prompt alone cannot be asked."""
    job = make(ABC, limits={"max_tokens": 1000})

    assert request_of_job(job, [], provider="p").body["max_tokens"] == 3
    with pytest.raises(PromptError, match="sets no max_completion_tokens or max_tokens"):
        request_of_job(job, [], provider="p", params={"max_tokens": None})


def test_prompts_of_several_files_are_counted_through(make: Any) -> None:
    """Files come in the order of their names, and the index goes on from one to the next."""
    job = make({"text": ["unused"]}, prompts={"path": "p-*.parquet"})
    for name, texts in (("p-2.parquet", ["c"]), ("p-1.parquet", ["a", "b"])):
        write_prompts(job.base, {"text": texts}, name)

    plan = plan_job(job)

    asked = [request.body["messages"][0]["content"] for chunk in plan.chunks() for request in chunk.requests]
    assert (plan.prompt_count, asked) == (3, ["a", "b", "c"])
    assert numbers(plan, plan.chunks()) == [0, 1, 2]
