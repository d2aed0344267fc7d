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
from logprob_store.view.page.assets import joined_scripts, joined_styles, json_in_page, script_hash
from logprob_store.view.report.run_facts import failure_classes, identity, oddities, run_facts
from logprob_store.view.report.samples import Sample, chosen_answers, failed_samples, loaded_samples
from logprob_store.view.report.sections import SCORES, chart_sections
from logprob_store.view.safe_text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import polars as pl

    from logprob_store.analysis.opened_store import Store
    from logprob_store.metrics.two_runs.comparison import ComparisonSummary

_HERE: Final = Path(__file__).parent
_PAGE: Final = _HERE.parent / "page"
_MOST_BYTES: Final = 2_300_000
"""Of the samples: charts, script and style need the rest of the 3 MB."""
_MOST_BYTES_OF_ONE: Final = 200_000
"""A longer answer loses tokens from its end."""


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
        temporary = output.with_name(f".{output.name}.tmp")
        temporary.write_bytes(text)
        temporary.replace(output)
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
    samples, left_out = _within(
        loaded_samples(
            one,
            scores,
            groups,
            changed=changed,
            earlier=compared.earlier,
            correct=scores.select("completion_id", "correct") if expected is not None else None,
        ),
        failed_samples(one),
    )
    (manifest,) = one.manifests
    return {
        "run": run,
        "written_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "identity": identity(store.path, manifest),
        "facts": list(run_facts(one, scores)),
        "failures": failure_classes(one),
        "oddities": oddities(one),
        "comparison": compared.rows,
        "not_compared": compared.reason,
        "sections": list(chart_sections(store, run, scores, changed, labels=labels)),
        "shown": counted(len(samples), "sample"),
        "left_out": left_out,
        "answers": scores.height,
        "data": {"samples": samples, "scores": list(SCORES), "answers": scores.height},
    }


def _scores(store: Store, expected: str | None) -> pl.DataFrame:
    """The scores of the answers, with `correct` where a column has the truth."""
    if expected is None:
        return store.scores().drop("text").collect(engine="streaming")
    return with_expected(store, expected).drop("text")


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


def _within(answers: Iterable[Sample], failed: Iterable[Sample]) -> tuple[list[Sample], int]:
    """The samples for which there is room, the failed ones first as they are small; and how many were left out."""
    kept, size, left_out = [], 0, 0
    for sample in (*failed, *answers):
        length = _bytes_of(sample)
        while length > _MOST_BYTES_OF_ONE and _halve(sample):
            length = _bytes_of(sample)
        if size + length > _MOST_BYTES:
            left_out += 1
            continue
        size += length
        kept.append(sample)
    return kept, left_out


def _bytes_of(sample: Sample) -> int:
    """What a sample takes in the page, where some characters take six."""
    return len(json_in_page(sample).encode())


def _halve(sample: Sample) -> bool:
    """Leave out the second half of the tokens of an answer, and of the earlier one; whether there were any."""
    views = [view for view in (sample.get("view"), (sample.get("before") or {}).get("view")) if view]
    is_shorter = False
    for view in views:
        kept = sum(len(section["spans"]) for section in view["sections"]) // 2
        for section in view["sections"]:
            left_out = section["spans"][kept:]
            section["spans"] = section["spans"][:kept]
            kept -= len(section["spans"])
            view["left_out"] += sum(len(tokens) for _, tokens in left_out)
            is_shorter = is_shorter or bool(left_out)
        view["sections"] = [section for section in view["sections"] if section["spans"]]
    return is_shorter
