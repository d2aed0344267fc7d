"""`logprobs compare` and `store.compare`: the runs compared, the output, and the exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

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
    settings: dict[str, Any] | None = None,
    sources: list[str] | None = None,
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
        "source": sources or ["api"] * len(ids),
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


COPIED_SETTING = 'mode = "refresh" under [cache]'


def test_a_night_out_of_the_cache_is_unknown(tmp_path: Path) -> None:
    """Equal answers that were copied say nothing of the model: exit code 6, and what to change in the job."""
    write(tmp_path, "mon", ["a", "b"])
    write(tmp_path, "tue", ["a", "b"], sources=["cache", "cache"])
    code, printed = call(tmp_path)
    as_json = json.loads(call(tmp_path, "--json")[1])

    said = "2 of 2 pairs of tue were copied from the cache, so nothing was asked"
    assert code == 6
    assert printed.strip().splitlines()[-1].startswith(f"UNKNOWN: tue against mon, 2 pairs: {said}")
    assert COPIED_SETTING in printed
    assert "is seen 4 nights in 5" not in printed
    assert (as_json["copied"], as_json["unknown"]) == (2, ["flip_rate", "perplexity_increase"])


def test_copied_answers_are_unknown_in_python(tmp_path: Path) -> None:
    """Also where no share of anything missing is too much; each pair says whether it was copied."""
    write(tmp_path, "mon", ["a", "b"])
    write(tmp_path, "tue", ["a", "b"], sources=["cache", "cache"])
    comparison = open_store(tmp_path).compare()
    verdict = comparison.summary(resamples=10).verdict(max_missing=None)

    assert (verdict.passed, verdict.unknown) == (False, ("flip_rate", "perplexity_increase"))
    assert comparison.prompts.collect()["copied"].to_list() == [True, True]


@pytest.mark.parametrize(("copied", "code"), [(1, 0), (2, 6)])
def test_few_copied_answers_hide_nothing(tmp_path: Path, copied: int, code: int) -> None:
    """Of 20 pairs, 1 is the 5 % that may be missing, and 2 are more; either is said."""
    write(tmp_path, "mon", ["a"] * 20)
    write(tmp_path, "tue", ["a"] * 20, sources=["cache"] * copied + ["api"] * (20 - copied))
    found, printed = call(tmp_path)

    assert found == code
    assert f"{copied} of 20 pairs of tue {'was' if copied == 1 else 'were'} copied from the cache" in printed


def test_a_change_beside_copied_answers_is_a_change(tmp_path: Path) -> None:
    """Half of the answers were copied, and all others differ: copies make no flip, so these are surely above."""
    write(tmp_path, "mon", ["a"] * 20)
    write(tmp_path, "tue", ["a"] * 10 + ["b"] * 10, sources=["cache"] * 10 + ["api"] * 10)

    assert call(tmp_path)[0] == 5


def test_an_earlier_run_may_be_copied(tmp_path: Path) -> None:
    """What tonight asked is compared with what the night before had, wherever it had it from."""
    write(tmp_path, "mon", ["a", "b"], sources=["cache", "cache"])
    write(tmp_path, "tue", ["a", "b"])

    assert call(tmp_path)[0] == 0


@pytest.mark.parametrize("option", ["--max-flip-rate", "--max-missing", "--max-added"])
@pytest.mark.parametrize("value", ["5", "-0.1", "-inf", "nan"])
def test_a_limit_that_is_no_share_is_refused(store: Path, option: str, value: str) -> None:
    """Somebody who means 5 % and writes 5 would never hear an alarm."""
    with pytest.raises(InputError, match=f"{option[2:].replace('-', '_')} {value}: "):
        call(store, f"{option}={value}")


@pytest.mark.parametrize("name", ["max_js", "max_perplexity_increase"])
def test_a_limit_below_0_is_refused(store: Path, name: str) -> None:
    """It would ring every night; above 1 it may be, as neither is a share."""
    summary = open_store(store).compare().summary(resamples=10)

    with pytest.raises(InputError, match=f"{name} -1: it has to be at least 0"):
        summary.verdict(**{name: -1.0})
    assert summary.verdict(**{name: 2.0}).exceeded is not None


def test_a_run_is_not_compared_with_itself(store: Path) -> None:
    """Nothing differs, which somebody who mistyped a name would take for an `ok`; in another store it is another."""
    with pytest.raises(InputError, match="run 'mon' cannot be compared with itself"):
        call(store, "mon", "mon")
    with pytest.raises(InputError, match="run 'mon' cannot be compared with itself"):
        call(store, "mon", "mon", "--other", store / ".")
    write(store / "there", "mon", ["a", "b", "c", "d"])
    assert call(store, "mon", "mon", "--other", store / "there")[0] == 0


def test_nights_of_new_prompts_have_none_in_common(tmp_path: Path) -> None:
    """The error says that this is by design, and what to compare instead."""
    settings = {"model.params.temperature": 0, "prompts.select": "new"}
    write(tmp_path, "mon", ["a"], settings=settings)
    write_other_prompt(tmp_path, settings)

    with pytest.raises(
        InputError, match=r'runs mon and tue asked only new .*select = "new".*by design.*a job of its own'
    ):
        call(tmp_path)


def write_other_prompt(store: Path, settings: dict[str, Any]) -> None:
    """A run `tue` with an answer to a prompt that no other run has."""
    ids = {"completion_id": [0], "prompt_id": ["new"], "prompt_index": [0]}
    one = {"token_count": [1], "text": ["a"], "sample_index": [0], "choice_index": [0]}
    token = {"completion_id": [0], "section": ["content"], "position": [0], "token": ["a"], "logprob": [-0.5]}
    rows = {
        "prompts": full_table(PROMPTS, {name: ids[name] for name in ("prompt_id", "prompt_index")}),
        "completions": full_table(COMPLETIONS, ids | one),
        "tokens": full_table(TOKENS, token),
    }
    write_run(store, "tue", [(rows, range(1))], job_name="nightly", job={"model.name": "m", **settings})
