"""The estimate of `--dry-run`, against numbers worked out by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from builders import answer_to, requests_of, write_job, write_prompts

from logprob_store.cache.answers import AnswerCache
from logprob_store.job import load_job
from logprob_store.run.api import run_job
from logprob_store.run.dry_run import Estimate, dry_run

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.job import Job

PROMPTS = ["aaaa", "b", "aaaa", "c", None]
PRICES = {"input_usd_per_million_tokens": 10, "output_usd_per_million_tokens": 20}


def make(folder: Path, url: str = "http://127.0.0.1:9/v1", **limits: Any) -> Job:
    """A job over PROMPTS: of five rows two are equal and one cannot be asked; 2 choices of at most 8 tokens each."""
    write_prompts(folder, {"text": PROMPTS})
    model = {"endpoint": "completions", "logprobs": False, "params": {"max_tokens": 8, "n": 2}}
    return load_job(write_job(folder, url, model=model, limits=limits, prices=PRICES))


def test_the_numbers_of_a_small_job(tmp_path: Path) -> None:
    """Three different requests, of 50, 47 and 47 bytes, are to ask; tokens, dollars and time follow from these."""
    job = make(tmp_path, requests_per_minute=2, tokens_per_minute=1000, max_cost_usd=0.0025)
    # {"model":"m","prompt":"aaaa","max_tokens":8,"n":2}: 50 bytes; with one letter three less
    assert [len(request.content) for request in requests_of(job)] == [50, 47, 50, 47]

    estimate = dry_run(job)

    assert estimate == Estimate(
        prompts=5,
        calls=5,
        settled=0,
        cached=0,
        bad=1,
        to_ask=3,
        shared=1,
        prompt_tokens=12 + 11 + 11,  # a quarter of the bytes
        prompt_tokens_most=50 + 47 + 47,
        output_tokens=(3 * 2, 3 * 2 * 8),  # one token for each choice, or all eight
        # 34 * 10 + 6 * 20 = 460 millionths; at most a token a byte: 144 * 10 + 48 * 20 = 2400 millionths
        cost_usd=(pytest.approx(0.00046), pytest.approx(0.0024)),
        seconds=90.0,  # three calls at two a minute; 34 + 48 tokens at 1000 a minute would take 5
        spent_usd=0.0,
        reserved_usd=0.0,
        fits="yes",
    )
    first, *rest = estimate.sentence.splitlines()
    assert first == (
        "5 prompts, 5 calls: 0 already in the run, 0 in the cache or fixtures, 1 cannot be asked, 3 to ask, "
        "1 equal to one of these"
    )
    assert rest == [
        "about 34 tokens of prompts, 6 to 48 tokens of answers",
        "cost: $0.0005 to $0.0024 at most",
        (
            "at most: 3 calls, each made once, with 144 tokens of prompts (one for each byte sent, more for images) "
            "and 48 of answers (the maximum of each), at the dearest prices that may apply; what is asked again comes "
            "on top"
        ),
        "time at the job's limits per minute: 90 s",
        "under the job's ceilings: yes, even at its most (spent so far: 0 calls, 0 tokens, $0.0000)",
    ]
    assert not (tmp_path / "store").exists()


def test_what_is_cached_costs_nothing(tmp_path: Path) -> None:
    """With the answer of the two equal requests at hand, two are left to ask."""
    job = make(tmp_path)
    with AnswerCache(tmp_path / "cache") as cache:
        cache.put_many([answer_to(requests_of(job)[0])])

    estimate = dry_run(job)

    assert (estimate.cached, estimate.to_ask, estimate.shared, estimate.prompt_tokens) == (2, 2, 0, 22)
    assert (estimate.seconds, estimate.fits) == (None, None)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_requests": 2}, "no"),
        ({"max_requests": 3}, "yes"),
        ({"max_tokens": 39}, "no"),  # 34 + 6 at least
        ({"max_tokens": 40}, "maybe"),
        ({"max_tokens": 192}, "yes"),  # 144 + 48 at most
        ({"max_cost_usd": 0.0004}, "no"),
        ({"max_cost_usd": 0.001, "max_requests": 3}, "maybe"),
    ],
)
def test_whether_it_fits(tmp_path: Path, limits: dict[str, Any], expected: str) -> None:
    """`yes` when the worst case does, `no` when not even the least does."""
    assert dry_run(make(tmp_path, **limits)).fits == expected


def test_without_a_maximum_the_cost_has_no_upper_end(tmp_path: Path) -> None:
    """Without a maximum of output tokens the cost has no upper end."""
    job = make(tmp_path)
    job = job.model_copy(update={"model": job.model.model_copy(update={"params": {}})})

    estimate = dry_run(job)

    assert estimate.output_tokens == (3, None)
    assert estimate.cost_usd is not None
    assert estimate.cost_usd[1] is None
    assert "nobody knows: set a maximum of output tokens" in estimate.sentence
    assert "at most: " not in estimate.sentence


def test_what_is_reserved_is_said_apart_from_what_is_spent(tmp_path: Path, fault_server: Any) -> None:
    """Of a call that got no answer nobody knows the bill: its 47 bytes and 16 tokens count at their most."""
    fault_server.when('"b"', "reset")
    job = make(tmp_path, fault_server.url, max_requests=10, attempts=1)
    run_job(job, run="r")

    estimate = dry_run(job, run="r")

    assert (estimate.spent_tokens, estimate.reserved_tokens) == (46 + 63, 63)
    assert (
        "(spent so far: 3 calls, 46 tokens, $0.0008; reserved for calls that got no answer and may be billed: "
        "63 tokens, $0.0008)"
    ) in estimate.sentence


def test_failures_are_to_ask_and_what_was_spent_counts(tmp_path: Path, fault_server: Any) -> None:
    """After a run with one refused prompt, that one is left, and the tokens of the others are spent."""
    fault_server.when('"b"', "400")
    job = make(tmp_path, fault_server.url, max_requests=10)
    run_job(job, run="r")

    estimate = dry_run(job, run="r")

    # Twins cost once: two answers of 7 + 16 tokens, and three calls.
    assert (estimate.settled, estimate.to_ask, estimate.bad) == (3, 1, 1)
    assert (estimate.spent_requests, estimate.spent_tokens, estimate.fits) == (3, 46, "yes")
    assert estimate.spent_usd == pytest.approx((2 * 7 * 10 + 2 * 16 * 20) / 1e6)


def test_the_types_found_in_a_text_file_are_said(tmp_path: Path) -> None:
    """A CSV file does not say its types: the line shows them before anything is asked."""
    (tmp_path / "p.csv").write_text("id,text,stars\n007,a,3\n", encoding="utf-8")

    estimate = dry_run(load_job(write_job(tmp_path, "http://127.0.0.1:9/v1", prompts={"path": "p.csv"})))

    assert estimate.sentence.splitlines()[1] == "columns found: id String, text String, stars Int64"


def listed_job(folder: Path, **sections: Any) -> Job:
    """A job of one prompt for a model at OpenAI, without prices."""
    write_prompts(folder, {"text": ["Hi"]})
    model = {"name": "gpt-6-luna", "logprobs": False, "params": {"max_completion_tokens": 10}}
    return load_job(write_job(folder, None, **{**sections, "model": {**model, **sections.get("model", {})}}))


def test_the_name_of_a_model_is_enough_for_dollars(tmp_path: Path) -> None:
    """At its least a quarter of the bytes, at its most a token each, written into the cache, by the dearest tier."""
    job = listed_job(tmp_path)
    size = len(requests_of(job)[0].content)

    estimate = dry_run(job)

    # by hand: input 0.1, written into the cache 0.125, output 0.5 a million; twice that by `priority`
    least, most = (size // 4) * 0.1 + 0.5, 2 * (size * 0.125 + 10 * 0.5)
    assert estimate.cost_usd == (pytest.approx(least * 1e-6), pytest.approx(most * 1e-6))
    assert "prices of 2026-11-26 (https://developers.openai.com/api/docs/pricing)" in estimate.sentence


@pytest.mark.parametrize(
    ("tier", "factors"), [({"tier": "flex"}, (0.5, 1.0)), ({"tier": "default"}, (1.0, 1.0)), ({}, (1.0, 2.0))]
)
def test_the_most_is_by_the_dearest_tier_that_may_serve(
    tmp_path: Path, tier: dict[str, str], factors: tuple[float, float]
) -> None:
    """By `flex` a call may fall back to the standard tier; one that asks for none is served as the project says."""
    job = listed_job(tmp_path, transport=tier)
    size = len(requests_of(job)[0].content)

    estimate = dry_run(job)

    least, most = (size // 4) * 0.1 + 0.5, size * 0.125 + 10 * 0.5
    expected = (pytest.approx(factors[0] * least * 1e-6), pytest.approx(factors[1] * most * 1e-6))
    assert estimate.cost_usd == expected


@pytest.mark.parametrize("name", ["ft:gpt-6-luna:me::1", "gpt-7"])
def test_a_model_without_a_price_is_named(tmp_path: Path, name: str) -> None:
    """The estimate has no dollars, and says why."""
    estimate = dry_run(listed_job(tmp_path, model={"name": name}))

    assert estimate.cost_usd is None
    assert f"no price of {name} is known: set [prices]" in estimate.sentence


def test_a_model_at_another_address_has_no_price(tmp_path: Path) -> None:
    """It may cost anything there, or nothing: no word of it."""
    estimate = dry_run(listed_job(tmp_path, model={"base_url": "http://127.0.0.1:9/v1"}))

    assert (estimate.cost_usd, estimate.prices) == (None, None)
