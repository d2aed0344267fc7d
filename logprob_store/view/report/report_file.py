"""A run as one HTML file that opens anywhere, without a network, and is at most 3 MB whatever the run's size."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from logprob_store.analysis.calibrators.expected_answers import with_expected
from logprob_store.counted import counted
from logprob_store.errors import InputError, disk_error
from logprob_store.extras import import_extra
from logprob_store.store.durable_files import replace_file
from logprob_store.view.page.assets import joined_scripts, joined_styles, json_in_page, script_hash
from logprob_store.view.report.run_facts import failure_classes, identity, notices, oddities, run_facts
from logprob_store.view.report.samples import (
    Sample,
    chosen_answers,
    failed_samples,
    halve,
    keep_alternatives,
    loaded_samples,
)
from logprob_store.view.report.sections import SCORES, UNREADABLE, chart_sections, unreadable
from logprob_store.view.safe_text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from logprob_store.analysis.opened_store import Store
    from logprob_store.metrics.two_runs.comparison import ComparisonSummary

_HERE: Final = Path(__file__).parent
_PAGE: Final = _HERE.parent / "page"
_MOST_BYTES: Final = 2_300_000
"""Of the samples: charts, script and style need the rest of the 3 MB."""


def write_report(
    store: Store,
    run: str,
    output: Path,
    *,
    expected: str | None = None,
    labels: list[str] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Write the report of one run.

    Args:
        store: all runs of the store: earlier ones are compared with.
        run: the run.
        output: the file; one that is there is replaced.
        expected: the column kept with the prompts that has the right answers, for calibration.
        labels: the labels that the answers choose from, for their breakdown.
        say: called with a few words before each step that may take minutes.

    Returns:
        What it holds: `bytes`, `samples`, and `left_out`, the chosen samples for which there was no room.

    Raises:
        InputError: there is no such run or column, or the file cannot be written.
        ImportError: the extra `view` is not installed.
    """
    jinja2 = import_extra("jinja2")
    contents = report_contents(store, run, expected=expected, labels=labels, say=say)
    data = contents.pop("data")
    script = joined_scripts(_PAGE / "tokens.js", _HERE / "report.js")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["printable"] = printable
    environment.filters["figure"] = _figure
    page = environment.get_template("report.html").render(
        **contents,
        script=script,
        script_hash=script_hash(script),
        style=joined_styles(_PAGE / "page.css", _HERE / "report.css"),
        data=json_in_page(data),
    )
    text = page.encode(errors="replace")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        replace_file(output, text)  # readable by its owner alone, as the store is
    except OSError as error:
        raise disk_error("the report", output, error, of_answers=False) or InputError(
            f"-o {output}: cannot be written: {error}"
        ) from error
    return {"bytes": len(text), "samples": len(data["samples"]), "left_out": contents["left_out"]}


def report_contents(
    store: Store, run: str, *, expected: str | None, labels: list[str] | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """All that the template shows, and under `data` what the page's script reads."""
    one = store.only(run)
    say(f"scoring {counted(one.manifests[0].counts.completions, 'answer', commas=True)}")
    scores = _scores(one, expected)
    compared = _compared(store, run, say)
    changed = compared.pairs
    groups = chosen_answers(scores, changed)
    loaded = loaded_samples(
        one,
        scores,
        groups,
        changed=changed,
        earlier=compared.earlier,
        correct=scores.select("completion_id", "correct") if expected is not None else None,
    )
    samples, left_out = _fitted([*failed_samples(one), *loaded])
    (manifest,) = one.manifests
    return {
        "run": run,
        "written_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "identity": identity(store.path, manifest),
        "notices": notices(store, run),
        "facts": list(run_facts(one, scores)),
        "failures": failure_classes(one),
        "oddities": oddities(one),
        "comparison": compared.rows,
        "not_compared": compared.reason,
        "sections": list(chart_sections(store, run, scores, changed, labels=labels)),
        "shown": _shown(samples, scores.height),
        "left_out": left_out,
        "data": {"samples": samples, "scores": list(SCORES)},
    }


def _scores(store: Store, expected: str | None) -> pl.DataFrame:
    """The scores of the answers, with `correct` where a column has the truth."""
    if expected is None:
        return store.scores().drop("text").collect(engine="streaming").sort("completion_id")
    return with_expected(store, expected).drop("text")


def _shown(samples: list[Sample], answers: int) -> str:
    """Which answers are on the page, in words."""
    words = {
        "least sure": "the least sure",
        "changed most": "those that changed most since the run before",
        "random": "some at random",
        "failed": "failures",
    }
    found = {group for sample in samples for group in sample["groups"]}
    kinds = ", ".join(said for group, said in words.items() if group in found)
    return f"{counted(len(samples), 'sample')} of {counted(answers, 'answer', commas=True)}" + (kinds and f": {kinds}")


def _figure(value: float | None) -> str:
    """A number of a table with four digits; empty for none."""
    return "" if value is None else f"{value:,.4g}"


@dataclass(frozen=True, slots=True)
class _Compared:
    """The run beside the one before it of the same job, or why there is nothing to compare."""

    pairs: pl.DataFrame | None = None
    earlier: Store | None = None
    rows: dict[str, Any] | None = None
    reason: str = ""


def _compared(store: Store, run: str, say: Callable[[str], None]) -> _Compared:
    try:
        runs = store.runs_to_compare(None, run)
    except InputError:
        return _Compared()  # the first run of its job
    earlier = runs[0]
    say(f"comparing with run {earlier.run_names[0]}")
    try:
        comparison = store.compare(earlier.run_names[0], run).collect()
        rows = _comparison_rows(comparison.summary())
    except UNREADABLE:
        return _Compared(reason=unreadable(store))
    except InputError as error:
        return _Compared(reason=str(error))
    return _Compared(comparison.prompts.collect(), earlier, rows)


def _comparison_rows(summary: ComparisonSummary) -> dict[str, Any]:
    verdict = summary.verdict()
    return {
        "run_a": summary.run_a,
        "line": verdict.line,
        "passed": verdict.passed,
        "metrics": summary.metrics.drop("resamples").drop_nulls("estimate").to_dicts(),
    }


def _fitted(samples: list[Sample]) -> tuple[list[Sample], int]:
    """The samples within the room of a page, and how many were left out.

    Long ones first lose alternatives, then tokens from their end; only what is too long all the same is left out.
    """
    most = _fair_share([_bytes_of(sample) for sample in samples], _MOST_BYTES)
    kept = []
    for sample in samples:
        for shorten in (lambda one: keep_alternatives(one, 5), lambda one: keep_alternatives(one, 2), *[halve] * 12):
            if _bytes_of(sample) <= most or not shorten(sample):
                break
        if _bytes_of(sample) <= most:
            kept.append(sample)
    return kept, len(samples) - len(kept)


def _fair_share(sizes: list[int], room: int) -> int:
    """How large one may be at most so that all fit, where those that need less leave their room to the others.

    >>> _fair_share([10, 50, 100], 90), _fair_share([10, 20], 90)
    (40, 20)
    """
    for place, size in enumerate(sorted(sizes)):
        share = room // (len(sizes) - place)
        if size > share:
            return share
        room -= size
    return max(sizes, default=0)


def _bytes_of(sample: Sample) -> int:
    """What a sample takes in the page, where some characters take six."""
    return len(json_in_page(sample).encode())
