"""When a model shuts down, said while there is time to choose another."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from logprob_store.models.table import bare_name

if TYPE_CHECKING:
    from logprob_store.models.table import KnownModel, ModelTable

SOON: Final = timedelta(days=90)
"""How long before its shutdown a model is warned of."""


def is_soon(shutdown: date, today: date) -> bool:
    """Whether a day of shutdown is near, or past.

    >>> is_soon(date(2027, 1, 14), date(2026, 10, 16)), is_soon(date(2027, 1, 14), date(2026, 10, 15))
    (True, False)
    """
    return shutdown <= today + SOON


def shutdown_notice(model: KnownModel, table: ModelTable, today: date) -> str | None:
    """What to know of a model's shutdown; None where it is far off, or not known.

    Args:
        model: that is asked.
        table: has what its successor takes.
        today: the day.
    """
    takes = model.takes
    if takes.shutdown is None or (model.service is not None and model.service.own_shutdowns):
        return None
    if not is_soon(takes.shutdown, today):
        return None
    plain = bare_name(model.name)
    of_what = f"{plain.name}, from which {model.name} is tuned," if plain.is_tuned else model.name
    left = (takes.shutdown - today).days
    when = f"shuts down on {takes.shutdown}, in {left} days" if left > 0 else f"has shut down on {takes.shutdown}"
    return f"{of_what} {when}{_successor(takes.successor, table)} ({_source(model, table)})"


def _source(model: KnownModel, table: ModelTable) -> str:
    """Where the day was read; of somebody's own rows, what these say."""
    takes, listed = model.takes, [row for row in table.models if row.source == model.takes.source]
    if any(row.shutdown == takes.shutdown for row in listed):
        return table.shutdowns
    return takes.source if takes.source and not listed else "as your own model.takes or model.table says"


def _successor(name: str | None, table: ModelTable) -> str:
    """What the service names in its place, and whether that gives logprobs."""
    if name is None:
        return ""
    takes = table.find(name)
    said = f"; its successor is {name}"
    if takes is None or takes.logprobs == "yes":
        return said
    if takes.logprobs == "without reasoning":
        return f"{said}, which gives logprobs at reasoning effort none"
    return f"{said}, which gives no logprobs: {table.instead} does, at reasoning effort none"
