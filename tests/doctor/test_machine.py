"""What the doctor says of prices and ceilings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builders import write_job

from logprob_store.doctor.machine import check_ceilings
from logprob_store.job import load_job
from logprob_store.spending import price_table

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def job_at_openai(folder: Path, **limits: Any) -> Any:
    """A job for a model whose price is listed."""
    model = {"name": "gpt-6-luna", "params": {"max_completion_tokens": 5}}
    return load_job(write_job(folder, None, model=model, limits=limits))


def test_listed_prices_are_named(tmp_path: Path) -> None:
    """With the page that they are from, and its day."""
    check = check_ceilings(job_at_openai(tmp_path, max_cost_usd=1.0))

    assert check.state == "ok"
    assert "costs are counted at the prices of 2026-11-26 (https://" in check.said


def test_old_prices_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ceiling kept by them may be another."""
    monkeypatch.setattr(price_table, "OLD_AFTER_DAYS", -(10**6))

    check = check_ceilings(job_at_openai(tmp_path, max_cost_usd=1.0))

    assert check.state == "warn"
    assert "days old: see whether they still hold, or set [prices]" in check.said


def test_listed_prices_bound_nothing(tmp_path: Path) -> None:
    """Without a ceiling the advice needs no prices."""
    check = check_ceilings(job_at_openai(tmp_path))

    assert (check.state, check.said) == (
        "warn",
        "nothing bounds what a run may cost: set limits.max_requests, or limits.max_cost_usd",
    )
