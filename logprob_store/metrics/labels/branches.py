"""Following an answer along its tokens, as long as they begin labels, and what stood beside each of them.

Leaves out whose the masses are (`labels`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.metrics.alternatives.chosen import is_chosen
from logprob_store.schema import KEYS
from logprob_store.token_bytes import token_bytes

if TYPE_CHECKING:
    from logprob_store.metrics.labels.spelling import Reading, Spelling

DEEPEST: Final = 16
"""Tokens of one label at most."""

NEGLIGIBLE: Final = 0.01
"""Below this probability, what cannot be told is left to the bounds without a word."""

_TEXT: Final = (*KEYS, "section")
_STEP: Final = ("path", "step")
_WEIGHTS: Final = {
    "path": pl.UInt32,
    "reading": pl.UInt32,
    "weight": pl.Float64,
    "hidden": pl.Boolean,
    "taken": pl.Boolean,
}


@dataclass(slots=True)
class Branches:
    """All ends of all paths.

    Attributes:
        readings: what each text, by number, is to the labels.
        texts: those texts.
        weights: `path`, `reading`, `weight` (the probability of what led there and of it), `hidden` (what was not shown
            behind that text), `taken` (the answer ended there); what is no label's beginning is left out.
        looked_at: `path`, scored_alternatives, unscored_alternatives.
        untold: the paths on which a text of a label has no logprob, and more than NEGLIGIBLE that may be its was not
            shown.
    """

    readings: list[Reading]
    texts: list[bytes]
    weights: pl.DataFrame
    looked_at: pl.DataFrame
    untold: pl.Series


@dataclass(slots=True)
class _Texts:
    """The texts met so far, by number: what was written of a label, and what must still come before it."""

    spelling: Spelling
    texts: list[bytes] = field(default_factory=list)
    leads: list[bytes] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    numbers: dict[tuple[bytes, bytes | None], int] = field(default_factory=dict)

    def number(self, text: bytes, lead: bytes | None) -> int:
        """The number of a text; a lead of None says that it is in no place to be a label."""
        key = (text, lead)
        if key not in self.numbers:
            self.numbers[key] = len(self.texts)
            self.texts.append(text)
            self.leads.append(lead or b"")
            self.readings.append(self.spelling.read(b"\0" if lead is None else text))
        return self.numbers[key]

    def behind(self, number: int, raw: bytes) -> int:
        """The number of a text and a token."""
        text, lead = self.texts[number], self.leads[number]
        if lead.startswith(raw):
            return self.number(text, lead[len(raw) :])
        if not raw.startswith(lead):
            return self.number(b"", None)
        return self.number(text + raw[len(lead) :], b"")


def follow(
    places: pl.DataFrame,
    tokens: pl.LazyFrame,
    alternatives: pl.LazyFrame,
    spelling: Spelling,
    *,
    whole_counts: bool = False,
) -> Branches:
    """Look at the options at each place, and go on where the answer took one that only begins labels.

    Args:
        places: `path`, KEYS, section, `position` and `lead` of each place.
        tokens: the tokens of these sections.
        alternatives: their alternatives.
        spelling: the labels.
        whole_counts: whether what spells a label is that label, though it begins another.
    """
    options = _options(places, tokens, alternatives)
    lengths = options.group_by("path").agg(length=pl.col("step").max() + 1)
    known = _Texts(spelling)
    starts = [known.number(b"", lead) for lead in places["lead"].fill_null(b"")]
    active = places.select("path", reading=pl.Series(starts, dtype=pl.UInt32), reached=pl.lit(1.0))
    ends: list[pl.DataFrame] = [pl.DataFrame(schema=_WEIGHTS)]
    looked: list[pl.DataFrame] = []
    untold: list[pl.Series] = [pl.Series("path", [], dtype=pl.UInt32)]
    for step in range(DEEPEST):
        rows = options.filter(pl.col("step") == step).join(active, on="path", how="inner")
        if not rows.height:
            break
        looked.append(rows.select("path", "logprob"))
        scored = rows.filter(pl.col("logprob").is_not_null())
        scored = scored.with_columns(weight=pl.col("reached") * pl.col("logprob").exp())
        scored = _read_on(scored, known).join(lengths, on="path", how="left")
        undecided = pl.Series(
            [reading.open and not (whole_counts and reading.whole is not None) for reading in known.readings]
        )
        goes_on = pl.col("taken") & undecided[scored["next"]] & (pl.col("length") > step + 1)
        goes_on = goes_on & (step + 1 < DEEPEST)
        scored = scored.with_columns(goes_on=goes_on)
        hidden = _hidden(scored, active)
        ends.append(hidden)
        unscored = rows.filter(pl.col("logprob").is_null()).join(scored, on=["path", "raw"], how="anti")
        unscored = _read_on(unscored, known)
        somebodys = pl.Series([bool(reading.may) for reading in known.readings], dtype=pl.Boolean)
        lost = unscored.filter(somebodys[unscored["next"]])["path"]
        untold.append(hidden.filter(pl.col("path").is_in(lost.implode()), pl.col("weight") > NEGLIGIBLE)["path"])
        over = scored.filter(~pl.col("goes_on") & somebodys[scored["next"]])
        ends.append(
            over.select("path", pl.col("next").alias("reading"), "weight", pl.lit(value=False).alias("hidden"), "taken")
        )
        active = scored.filter("goes_on").select("path", reading="next", reached="weight")
    weights = pl.concat([end.select(pl.col(name).cast(kind) for name, kind in _WEIGHTS.items()) for end in ends])
    return Branches(known.readings, known.texts, weights, _counted(looked), pl.concat(untold))


def _options(places: pl.DataFrame, tokens: pl.LazyFrame, alternatives: pl.LazyFrame) -> pl.DataFrame:
    """By path and step: the chosen token (`taken`) and the others, each once, with `raw` bytes and logprob."""
    at = places.filter(pl.col("position").is_not_null()).select(*_TEXT, "path", first="position").lazy()
    step = (pl.col("position") - pl.col("first")).cast(pl.Int64).alias("step")
    near = pl.col("step").is_between(0, DEEPEST - 1)
    raw = token_bytes().alias("raw")
    columns = ("token", "bytes", "token_id", "logprob")
    chosen = tokens.join(at, on=_TEXT, how="inner").with_columns(step).filter(near).select(*_STEP, *columns, raw)
    own = chosen.select(*_STEP, pl.col(columns).name.prefix("chosen_"))
    listed = alternatives.join(at, on=_TEXT, how="inner").with_columns(step).filter(near)
    listed = listed.select(*_STEP, *columns, raw).join(own, on=_STEP, how="left")
    others = listed.filter(~(is_chosen().fill_null(value=False) & pl.col("chosen_logprob").is_not_null()))
    taken = pl.col("logprob").is_not_null().alias("taken")
    both = [
        chosen.select(*_STEP, "raw", "logprob", taken),
        others.select(*_STEP, "raw", "logprob", pl.lit(value=False).alias("taken")),
    ]
    return pl.concat(both).collect(engine="streaming")


def _read_on(rows: pl.DataFrame, known: _Texts) -> pl.DataFrame:
    """The rows with `next`, the number of what was written with each option; one look for each different pair."""
    pairs = rows.select("reading", "raw").unique()
    found = [known.behind(number, raw or b"\0") for number, raw in pairs.iter_rows()]
    pairs = pairs.with_columns(next=pl.Series(found, dtype=pl.UInt32))
    return rows.join(pairs, on=["reading", "raw"], how="left", nulls_equal=True)


def _hidden(scored: pl.DataFrame, active: pl.DataFrame) -> pl.DataFrame:
    """What was not shown at this step of each path that got here, behind what it had written."""
    shown = scored.group_by("path").agg(pl.col("weight").sum())
    rest = (pl.col("reached") - pl.col("weight").fill_null(0.0)).clip(0.0)
    return active.join(shown, on="path", how="left").select(
        "path",
        "reading",
        weight=rest,
        hidden=pl.lit(value=True),
        taken=pl.lit(value=False),
    )


def _counted(looked: list[pl.DataFrame]) -> pl.DataFrame:
    schema = {"path": pl.UInt32, "logprob": pl.Float64}
    logprob = pl.col("logprob")
    return (
        pl.concat([pl.DataFrame(schema=schema), *looked])
        .group_by("path")
        .agg(scored_alternatives=logprob.count(), unscored_alternatives=logprob.null_count())
    )
