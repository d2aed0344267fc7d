"""A completion, a store and a run in a notebook and in a Python shell."""

from __future__ import annotations

import contextlib
import io
import math
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from builders import run_demo

import logprob_store as ls
from logprob_store.job import override
from logprob_store.view.html import completion_html

REPO = Path(__file__).parents[2]
RICH = REPO / "fixtures" / "rich.jsonl"


@pytest.fixture
def answer() -> Any:
    """A recorded answer of three tokens."""
    asked = {"model": "gemma-3-270m", "max_tokens": 3, "temperature": 0, "provider": "llama.cpp/gemma-3-270m"}
    return ls.complete("January, February, March,", fixtures=RICH, **asked)


def test_an_answer_is_one_line(answer: Any) -> None:
    """Without escapes of a terminal, and showing it prints nothing by itself."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        shown = repr(answer)

    assert shown == "<Completion ' April, May': 3 tokens, confidence 0.552, perplexity 1.811>"
    assert printed.getvalue() == ""


def test_an_answer_in_a_notebook_keeps_the_page_s_colours(answer: Any) -> None:
    """Only what lies behind the letters is coloured, the less likely the darker; no letter has a colour of its own."""
    html = answer._repr_html_()

    opacities = [float(found) for found in re.findall(r"rgba\(221, 101, 38, ([0-9.]+)\)", html)]
    probabilities = [float(found) for found in re.findall(r'title="p ([0-9.]+)', html)]
    assert re.sub(r"<[^>]*>", "", html).startswith(" April, May3 tokens, confidence 0.552")
    assert opacities == pytest.approx([0.6 * (1 - p) for p in probabilities], abs=0.01)
    assert not re.search(r"[^-]color:", html)


def test_an_answer_is_shown_in_colours_when_asked_for(answer: Any) -> None:
    """With its least certain tokens and what was almost written."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        answer.show()

    assert "' and' 31.4%" in printed.getvalue()


def test_a_store_is_one_line_and_a_table(tmp_path: Path) -> None:
    """Not the dump of its manifests."""
    run_demo(tmp_path / "store")
    store = ls.open_store(tmp_path / "store")

    assert repr(store) == f"<Store '{tmp_path / 'store'}': 1 run: demo>"
    assert "<td>&quot;demo&quot;</td><td>&quot;finished&quot;</td><td>false</td>" in store._repr_html_()


def test_a_store_of_many_runs_names_the_newest(tmp_path: Path) -> None:
    """The older ones are counted."""
    for number in range(6):
        ls.import_responses([RICH], tmp_path / "store", run=f"n{number}")

    assert repr(ls.open_store(tmp_path / "store")).endswith(": 6 runs: 2 older and n2, n3, n4, n5>")


def test_an_unsure_token_is_told_by_a_line_too() -> None:
    """Two lines below 0.3, one below 0.7, none above, dots without a logprob: readable without any colour."""
    p = [0.9, 0.5, 0.1, None]
    rows = {"section": ["content"] * 4, "position": range(4), "token": ["a"] * 4, "bytes": [b"a"] * 4}
    tokens = pl.DataFrame(rows | {"logprob": [one and math.log(one) for one in p]})
    html = completion_html(tokens, tokens.clear(), "")

    lines = re.findall(r'<span style="background: [^;"]+(?:; border-bottom: ([^"]+))?"', html)
    assert lines == ["", "1px solid", "3px double", "1px dotted"]


def test_unsure_tokens_are_listed_for_keyboard_and_touch(answer: Any) -> None:
    """In a table that opens, the least sure first, with their alternatives."""
    html = answer._repr_html_()
    listed = re.findall(r"<tr><th[^>]*>(.*?)</th><td[^>]*>\d+</td><td[^>]*>([0-9.]+)</td>", html)

    assert re.search(r"<details><summary>\d tokens? below 0.7</summary><table>", html)
    assert [float(p) for _, p in listed] == sorted(float(p) for _, p in listed)
    assert "&#x27; and&#x27; 31.4%" in html


def test_a_run_is_a_small_table(tmp_path: Path) -> None:
    """What it did, without what it did not; text in it is only text."""
    job = override(ls.load_job(REPO / "jobs" / "demo.toml"), store=tmp_path / "<b>")
    html = ls.run_job(job, run="demo", limit=5)._repr_html_()

    assert '<th scope="row" style="text-align: left">answers wanted</th><td style="text-align: right">5</td>' in html
    assert "not reached" not in html
    assert "&lt;b&gt;</td>" in html


def test_a_comparison_is_a_small_table(tmp_path: Path) -> None:
    """What can be asked of it; its pairs once they are in memory; and the statistics of its summary."""
    job = override(ls.load_job(REPO / "jobs" / "demo.toml"), store=tmp_path / "store")
    for night in ("monday", "tuesday"):
        ls.run_job(job, run=night, limit=5)
    comparison = ls.open_store(tmp_path / "store").compare()

    assert ".collect()" in comparison._repr_html_()
    assert 'pairs of answers</th><td style="text-align: right">5</td>' in comparison.collect()._repr_html_()
    assert '<caption style="text-align: left">tuesday against monday: 5 pairs, 0 only' in (
        comparison.summary(resamples=10)._repr_html_()
    )
