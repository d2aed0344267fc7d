"""A completion, a store and a run in a notebook and in a Python shell."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
from builders import run_demo

import logprob_store as ls

RICH = Path(__file__).parents[2] / "fixtures" / "rich.jsonl"


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
