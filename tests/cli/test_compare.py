"""`logprobs compare` and `store.compare`: the runs compared, the output, and the exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl
import pytest
from builders import full_table, write_run
from typer.testing import CliRunner

from logprob_store.analysis.opened_store import open_store
from logprob_store.cli import app
from logprob_store.errors import InputError
from logprob_store.schema import ALTERNATIVES, COMPLETIONS, PROMPTS, TOKENS, completion_id

if TYPE_CHECKING:
    from pathlib import Path


def write(
    store: Path,
    run: str,
    answers: list[str],
    *,
    job: str = "nightly",
    logprob: float | None = -0.5,
    settings: dict[str, float] | None = None,
) -> None:
    """A run with one answer of one token for each prompt."""
    ids = [completion_id(number) for number in range(len(answers))]
    who = {"prompt_id": [f"p{number}" for number in range(len(answers))], "prompt_index": range(len(answers))}
    place = {"completion_id": ids, "section": ["content"] * len(ids), "position": [0] * len(ids), "token": answers}
    sums = {
        "token_count": [1] * len(ids),
        "text": answers,
        "sample_index": [0] * len(ids),
        "choice_index": [0] * len(ids),
    }
    tables = {
        "prompts": (PROMPTS, who),
        "completions": (COMPLETIONS, {"completion_id": ids, **who, **sums}),
        "tokens": (TOKENS, {**place, "logprob": [logprob] * len(ids)}),
        "alternatives": (ALTERNATIVES, {**place, "rank": [1] * len(ids), "logprob": [logprob] * len(ids)}),
    }
    rows = {name: full_table(schema, columns) for name, (schema, columns) in tables.items()}
    asked = {"model.name": "m", "model.params.temperature": 0} if settings is None else {"model.name": "m", **settings}
    write_run(store, run, [(rows, range(len(ids)))], job_name=job, job=asked)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three nights of a job, the last with another answer to one prompt of four, and one run of another job."""
    write(tmp_path, "mon", ["a", "b", "c", "d"])
    write(tmp_path, "tue", ["a", "b", "c", "d"])
    write(tmp_path, "other", ["z"], job="another")
    write(tmp_path, "wed", ["a", "b", "c", "D"], logprob=-0.6)
    return tmp_path


def call(*words: object) -> tuple[int, str]:
    """Exit code and output of `logprobs compare`."""
    done = CliRunner().invoke(app, ["compare", *map(str, words)])
    if isinstance(done.exception, InputError):
        raise done.exception
    return done.exit_code, done.stdout


def test_the_newest_run_is_compared_with_the_one_before_of_its_job(store: Path) -> None:
    """Runs of other jobs in between are skipped."""
    code, printed = call(store)

    assert code == 5
    assert "CHANGED: wed against tue, 4 pairs: 25.00% of answers differ (limit 0.02 not surely passed" in printed


def test_within_the_limits_the_exit_code_is_0(store: Path) -> None:
    """Equal runs pass; so does a change that the limits allow."""
    assert call(store, "mon", "tue")[0] == 0
    # e^0.6 / e^0.5 - 1 = 10.5 %
    assert call(store, "--max-flip-rate", "0.25", "--max-perplexity-increase", "0.11")[0] == 0
    assert call(store, "--normalise", "--max-perplexity-increase", "0.11")[0] == 0


def test_json_has_everything(store: Path) -> None:
    """The verdict, the counts, the statistics and the most changed pairs."""
    code, printed = call(store, "--json", "-n", "1")
    found = json.loads(printed)

    assert (code, found["exceeded"], found["pairs"]) == (5, ["perplexity_increase"], 4)
    assert (found["unknown"], found["missing_share"]) == ([], 0)
    # 1 of 4 flips: 1 - 0.95^(1/4)
    assert found["at_least"]["flip_rate"] == pytest.approx(1 - 0.95**0.25)
    assert [row["prompt_id"] for row in found["prompts"]] == ["p3"]
    assert found["metrics"][0]["metric"] == "flip_rate"


def test_all_pairs_can_be_written(store: Path, tmp_path: Path) -> None:
    """One row per pair, sorted by prompt."""
    call(store, "-o", tmp_path / "changes.parquet")

    assert pl.read_parquet(tmp_path / "changes.parquet")["flip"].to_list() == [False, False, False, True]


@pytest.mark.parametrize(
    ("settings", "drawn"),
    [({"model.params.temperature": 0}, False), ({"model.params.temperature": 1.0}, True), ({}, True)],
)
def test_runs_that_drew_their_answers_are_named(tmp_path: Path, settings: dict[str, float], *, drawn: bool) -> None:
    """Above temperature 0, as servers have it unless they are told, equal models differ too."""
    for name in ("mon", "tue"):
        write(tmp_path, name, ["a", "b"], settings=settings)
    _, printed = call(tmp_path)

    assert ("mon and tue drew answers at a temperature above 0" in printed) == drawn
    assert printed.strip().splitlines()[-1].startswith("ok: tue against mon")


def test_another_store(store: Path, tmp_path: Path) -> None:
    """RUN_B may be in another store; answers that only one run has are counted."""
    write(tmp_path / "there", "thu", ["a", "b", "c"])
    code, printed = call(store, "--other", tmp_path / "there", "--max-flip-rate", "1", "--max-missing", "0.25")

    assert code == 0
    assert "ok: thu against wed, 3 pairs" in printed
    assert "1 only in wed, 0 only in thu" in printed


def test_answers_without_a_partner_are_exit_code_5(store: Path) -> None:
    """Three answers of four are gone, and the one that is left is the same."""
    write(store, "thu", ["a"])
    code, printed = call(store, "tue", "thu")

    assert code == 5
    assert "75.00% of the answers of tue missing (above limit 0.05)" in printed


def test_a_limit_that_cannot_be_judged_is_exit_code_6(store: Path) -> None:
    """Logprobs that are sentinels are none; `inf` is no limit."""
    write(store, "thu", ["a", "b", "c", "d"], logprob=None)
    code, printed = call(store, "tue", "thu", "--max-js", "0.01")

    assert code == 6
    assert "UNKNOWN: thu against tue" in printed
    assert call(store, "tue", "thu", "--max-perplexity-increase", "inf")[0] == 0


@pytest.mark.parametrize(("words", "message"), [(["zzz"], "no run 'zzz'"), (["mon", "other"], None)])
def test_what_cannot_be_compared(store: Path, words: list[str], message: str | None) -> None:
    """A missing run is an error; a run that shares one prompt is enough."""
    if message is None:
        assert call(store, *words)[0] == 5
        return
    with pytest.raises(InputError, match=message):
        call(store, *words)


def test_the_first_run_of_a_job_has_none_before_it(store: Path) -> None:
    """The message lists the runs of the store."""
    with pytest.raises(InputError, match=r"first of job 'another'.*mon, tue, other"):
        open_store(store).compare(run_b="other")


def test_an_empty_store_has_nothing_to_compare(tmp_path: Path) -> None:
    """The message says how to make a run."""
    (tmp_path / "runs").mkdir()
    with pytest.raises(InputError, match="has no run yet"):
        open_store(tmp_path).compare()


def test_scores_by_name_from_the_command_line(store: Path) -> None:
    """`--metrics` prints the named scores; for an unknown name, the error suggests a known one."""
    done = CliRunner().invoke(app, ["scores", str(store), "--run", "mon", "--metrics", "perplexity, min_k_probability"])

    assert done.exit_code == 0
    assert "min_k_probability" in done.stdout
    assert "-0.5" in done.stdout
    failed = CliRunner().invoke(app, ["scores", str(store), "--metrics", "perplexty"])
    assert "did you mean perplexity" in str(failed.exception)
