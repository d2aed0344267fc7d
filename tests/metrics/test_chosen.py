"""The chosen token among its alternatives: found, appended, ranked."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import logprob_store as ls
from logprob_store.schema import ALTERNATIVES, TOKENS

SHOWN = [("a", b"a", 1, math.log(0.5)), ("b", b"b", 2, math.log(0.25))]


def table(schema: pl.Schema, rows: list[dict[str, Any]]) -> pl.LazyFrame:
    """Rows of a store's table, of run r, completion 1, position 0 unless they say otherwise."""
    defaults = {"completion_id": 1, "section": "content", "position": 0}
    frame = pl.DataFrame([defaults | row for row in rows], schema=schema, orient="row")
    return frame.lazy().with_columns(run=pl.lit("r"))


def row(token: str, spelled: bytes | None, token_id: int | None, logprob: float | None) -> dict[str, Any]:
    """A token with its string."""
    return {"token": token, "bytes": spelled, "token_id": token_id, "logprob": logprob}


def shown(rows: list[tuple[Any, ...]] = SHOWN) -> pl.LazyFrame:
    """Alternatives, ranked as given."""
    return table(ALTERNATIVES, [row(*r) | {"rank": i} for i, r in enumerate(rows, start=1)])


def ranks(chosen: tuple[Any, ...], rows: list[tuple[Any, ...]] = SHOWN) -> list[int]:
    """The ranks after the chosen token was looked for."""
    both = ls.with_chosen(shown(rows), table(TOKENS, [row(*chosen)]))
    return both.collect().sort("rank")["rank"].to_list()


@pytest.mark.parametrize(
    ("chosen", "appended"),
    [
        (("a", b"a", 1, -0.69), False),
        (("other spelling", None, 2, -1.38), False),  # the same id
        (("a", b"a", 9, -3.0), True),  # the same spelling, another id
        (("a", b"a", None, -0.69), False),  # no id to compare: by spelling
        (("a", b"A", None, -3.0), True),  # shown alike, other bytes
        (("a", None, None, -0.69), False),  # bytes on one side only say nothing
        (("c", b"c", None, -3.0), True),
        (("c", b"c", 3, None), False),  # its mass is not known
    ],
)
def test_found_by_id_else_by_spelling(chosen: tuple[Any, ...], *, appended: bool) -> None:
    """A chosen token is appended as rank 0 where no alternative is the same token."""
    assert ranks(chosen) == ([0, 1, 2] if appended else [1, 2])


def test_appended_mass_is_counted() -> None:
    """1/2 and 1/4 shown, 1/8 chosen: an eighth is missing, not a quarter."""
    tokens = table(TOKENS, [row("c", b"c", 3, math.log(0.125))])
    actual = ls.with_chosen(shown(), tokens).group_by(ls.POSITION).agg(ls.missing_mass(), ls.chosen_rank())

    assert actual.collect().select("missing_mass", "chosen_rank").row(0) == pytest.approx((0.125, 3))


def test_appended_once_when_delivered_as_the_last() -> None:
    """A server that appends the chosen token itself as the k+1st is left as it is."""
    delivered = [*SHOWN, ("c", b"c", 3, math.log(0.125))]

    assert ranks(("c", b"c", 3, math.log(0.125)), delivered) == [1, 2, 3]


def test_positions_do_not_mix() -> None:
    """The same token in another position or section is another token."""
    places: list[dict[str, Any]] = [{"position": 0}, {"position": 1}, {"section": "reasoning"}]
    tokens = table(TOKENS, [row("a", b"a", 1, -0.69) | place for place in places])
    actual = ls.with_chosen(shown(), tokens).filter(pl.col("rank") == 0).sort("section", "position").collect()

    assert actual.select("section", "position").rows() == [("content", 1), ("reasoning", 0)]


def test_both_engines_agree() -> None:
    """Joined and appended rows are the same when streamed."""
    query = ls.with_chosen(shown(), table(TOKENS, [row("c", b"c", 3, -3.0)])).sort("rank")

    assert_frame_equal(query.collect(engine="streaming"), query.collect(engine="in-memory"))


@pytest.mark.parametrize(
    ("logprob", "rank", "greedy"),
    [
        (math.log(0.5), 1, True),
        (math.log(0.25), 2, False),
        (math.log(0.1), 3, False),  # below all shown
        (None, None, None),
    ],
)
def test_rank_and_greedy(logprob: float | None, rank: int | None, greedy: bool | None) -> None:  # noqa: FBT001
    """The rank is by probability, not by order; an unscored chosen token has none."""
    frame = pl.DataFrame(
        {"logprob": [math.log(0.25), math.log(0.5)], "chosen_logprob": [logprob] * 2},
        schema_overrides={"chosen_logprob": pl.Float64},
    )

    assert frame.select(ls.chosen_rank(), ls.greedy()).row(0) == (rank, greedy)


def test_a_tie_for_the_first_place_is_greedy() -> None:
    """Equal alternatives share the better rank."""
    frame = pl.DataFrame({"logprob": [-0.7, -0.7], "chosen_logprob": -0.7})

    assert frame.select(ls.chosen_rank(), ls.greedy()).row(0) == (1, True)
