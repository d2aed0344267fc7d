"""A model's shutdown is said in time, with what to ask instead."""

from __future__ import annotations

from datetime import date

import pytest

from logprob_store.models.shutdowns import shutdown_notice
from logprob_store.models.table import Takes, shipped_table

TABLE = shipped_table()


def notice(name: str, today: date, base_url: str | None = None) -> str | None:
    """What is said of a model on a day."""
    known = TABLE.known(name, base_url=base_url)
    assert known is not None
    return shutdown_notice(known, TABLE, today)


@pytest.mark.parametrize(
    ("today", "said"),
    [
        (date(2026, 10, 15), None),  # 91 days before 2027-01-14
        (date(2026, 10, 16), "gpt-4o-mini shuts down on 2027-01-14, in 90 days; its successor is gpt-6-luna"),
        (date(2027, 1, 13), "gpt-4o-mini shuts down on 2027-01-14, in 1 days"),
        (date(2027, 1, 14), "gpt-4o-mini has shut down on 2027-01-14"),
        (date(2028, 1, 1), "gpt-4o-mini has shut down on 2027-01-14; its successor is gpt-6-luna"),
    ],
)
def test_from_ninety_days_before(today: date, said: str | None) -> None:
    """And from then on for ever: a server decides whether it still answers."""
    found = notice("gpt-4o-mini", today)

    assert found is None if said is None else found is not None and found.startswith(said)


def test_a_successor_that_gives_no_logprobs() -> None:
    """It would be of no use to whoever wants them, and another is named."""
    assert "its successor is gpt-6.1-sol, which gives no logprobs: gpt-6-luna does" in str(
        notice("gpt-5", date(2026, 11, 26))
    )


def test_a_model_tuned_from_one() -> None:
    """Fine-tuned models go with those that they are made from."""
    assert str(notice("ft:gpt-4o-mini-2024-07-18:acme::abc", date(2026, 11, 26))).startswith(
        "gpt-4o-mini-2024-07-18, from which ft:gpt-4o-mini-2024-07-18:acme::abc is tuned, shuts down on 2027-01-14"
    )


def test_azure_has_days_of_its_own() -> None:
    """OpenAI's are no news there."""
    assert notice("gpt-4o-mini", date(2027, 1, 14), "https://mine.openai.azure.com") is None


def test_a_model_that_stays() -> None:
    """No shutdown is known."""
    assert notice("gpt-6-luna", date(2026, 11, 26)) is None


@pytest.mark.parametrize(
    ("takes", "cited"),
    [
        (None, "(https://developers.openai.com/api/docs/deprecations)"),
        (Takes(like="gpt-4o-mini"), "(https://developers.openai.com/api/docs/deprecations)"),
        (Takes(shutdown=date(2026, 12, 1)), "(as your own model.takes or model.table says)"),
        (Takes(shutdown=date(2026, 12, 1), source="a letter"), "(a letter)"),
    ],
)
def test_where_the_day_was_read(takes: Takes | None, cited: str) -> None:
    """What a job says itself is not cited to OpenAI's page."""
    known = TABLE.known("gpt-4o", base_url=None, takes=takes)
    assert known is not None

    assert str(shutdown_notice(known, TABLE, date(2026, 11, 26))).endswith(cited)
