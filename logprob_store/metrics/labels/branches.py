"""The tokens of an answer, followed up to the end of its label, and the alternatives at each of them.

Which label each probability counts for is in `probabilities`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.metrics.alternatives.chosen import is_chosen
from logprob_store.schema import KEYS
from logprob_store.token_bytes import token_bytes

if TYPE_CHECKING:
    from logprob_store.metrics.labels.spelling import Match, Spellings

MOST_LABEL_TOKENS: Final = 16
"""The most tokens of one label."""

NEGLIGIBLE: Final = 0.01
"""Probability below which mass that belongs to no certain label is left to the bounds, without an error."""

_TEXT_KEYS: Final = (*KEYS, "section")
_STEP: Final = ("path", "step")
_WEIGHTS: Final = {
    "path": pl.UInt32,
    "text": pl.UInt32,
    "weight": pl.Float64,
    "hidden": pl.Boolean,
    "taken": pl.Boolean,
}


@dataclass(slots=True)
class Branches:
    """The ends of all paths; a path is the label of one answer.

    Attributes:
        matches: which labels each text matches, by the number of the text.
        texts: those texts.
        weights: one row per path and end: `text`, the number of the text there; `weight`, the probability of the tokens
            that spell it; `hidden`, whether it is the mass that was not shown after that text; `taken`, whether the
            answer chose it. Texts that begin no label are left out.
        counts: `path`, scored_alternatives, unscored_alternatives.
        ambiguous: the paths on which a text of a label has no logprob, while more than NEGLIGIBLE was not shown.
    """

    matches: list[Match]
    texts: list[bytes]
    weights: pl.DataFrame
    counts: pl.DataFrame
    ambiguous: pl.Series


@dataclass(slots=True)
class _Texts:
    """The texts that were met so far, by number.

    A lead is what must still be written before the label begins. One of None means that no label can begin any more.
    """

    spellings: Spellings
    texts: list[bytes] = field(default_factory=list)
    leads: list[bytes] = field(default_factory=list)
    matches: list[Match] = field(default_factory=list)
    numbers: dict[tuple[bytes, bytes | None], int] = field(default_factory=dict)

    def number(self, text: bytes, lead: bytes | None) -> int:
        """The number of a text, new where it was not met before."""
        key = (text, lead)
        if key not in self.numbers:
            self.numbers[key] = len(self.texts)
            self.texts.append(text)
            self.leads.append(lead or b"")
            self.matches.append(self.spellings.match(b"\0" if lead is None else text))
        return self.numbers[key]

    def extended(self, number: int, token: bytes) -> int:
        """The number of a text with a token after it."""
        text, lead = self.texts[number], self.leads[number]
        if lead.startswith(token):
            return self.number(text, lead[len(token) :])
        if not token.startswith(lead):
            return self.number(b"", None)
        return self.number(text + token[len(lead) :], b"")

    def undecided(self) -> pl.Series:
        """By number: whether the next token decides which label it is, or whether its word goes on."""
        return pl.Series([match.may_go_on for match in self.matches], dtype=pl.Boolean)

    def possible(self) -> pl.Series:
        """By number: whether the text may become a label."""
        return pl.Series([bool(match.possible) for match in self.matches], dtype=pl.Boolean)

    def known(self) -> pl.Series:
        """By number: whether it spells a label, and can be no other."""
        found = [match.spelled is not None and not match.undecided for match in self.matches]
        return pl.Series(found, dtype=pl.Boolean)


def follow_answers(
    locations: pl.DataFrame,
    tokens: pl.LazyFrame,
    alternatives: pl.LazyFrame,
    spellings: Spellings,
) -> Branches:
    """Read the options at each location, and follow the answer until what it chose has ended its label, or is none.

    Args:
        locations: `path`, KEYS, section, `position` and `lead`.
        tokens: the tokens of these sections.
        alternatives: their alternatives.
        spellings: those of the labels.
    """
    options = _options(locations, tokens, alternatives)
    lengths = options.group_by("path").agg(length=pl.col("step").max() + 1)
    texts = _Texts(spellings)
    starts = [texts.number(b"", lead) for lead in locations["lead"].fill_null(b"")]
    # The paths that go on: the number of the text so far, and the probability of its tokens.
    active = locations.select("path", text=pl.Series(starts, dtype=pl.UInt32), reached=pl.lit(1.0))
    ends: list[pl.DataFrame] = [pl.DataFrame(schema=_WEIGHTS)]
    seen: list[pl.DataFrame] = [pl.DataFrame(schema={"path": pl.UInt32, "logprob": pl.Float64})]
    ambiguous: list[pl.Series] = [pl.Series("path", [], dtype=pl.UInt32)]
    for step in range(MOST_LABEL_TOKENS):
        rows = options.filter(pl.col("step") == step).join(active, on="path", how="inner")
        if not rows.height:
            break
        seen.append(rows.select("path", "logprob"))
        scored = _scored(rows, texts).join(lengths, on="path", how="left")
        goes_on = texts.undecided()[scored["next"]]
        more_tokens = (pl.col("length") > step + 1) & (step + 1 < MOST_LABEL_TOKENS)
        scored = scored.with_columns(goes_on=pl.col("taken") & goes_on & more_tokens)
        hidden = _hidden(scored, active)
        unscored = _unscored(rows, scored, texts)
        possible = texts.possible()
        # Behind a label that can be no other, an option without a logprob is of this label or of none.
        either = possible[unscored["next"]] & ~texts.known()[unscored["text"]]
        ambiguous.append(_with_much_hidden(unscored.filter(either), hidden))
        over = scored.filter(~pl.col("goes_on") & possible[scored["next"]])
        ends += [hidden, over.select("path", "weight", "taken", text="next", hidden=pl.lit(value=False))]
        active = scored.filter("goes_on").select("path", text="next", reached="weight")
    weights = pl.concat([end.select(pl.col(name).cast(kind) for name, kind in _WEIGHTS.items()) for end in ends])
    return Branches(texts.matches, texts.texts, weights, _counts(pl.concat(seen)), pl.concat(ambiguous))


def _options(locations: pl.DataFrame, tokens: pl.LazyFrame, alternatives: pl.LazyFrame) -> pl.DataFrame:
    """By path and step: the chosen token (`taken`) and the other options, each once, with `raw` bytes and logprob."""
    at = locations.filter(pl.col("position").is_not_null()).select(*_TEXT_KEYS, "path", first="position").lazy()
    step = (pl.col("position") - pl.col("first")).cast(pl.Int64).alias("step")
    near = pl.col("step").is_between(0, MOST_LABEL_TOKENS - 1)
    raw = token_bytes().alias("raw")
    columns = ("token", "bytes", "token_id", "logprob")
    chosen = tokens.join(at, on=_TEXT_KEYS, how="inner").with_columns(step).filter(near).select(*_STEP, *columns, raw)
    own = chosen.select(*_STEP, pl.col(columns).name.prefix("chosen_"))
    listed = alternatives.join(at, on=_TEXT_KEYS, how="inner").with_columns(step).filter(near)
    listed = listed.select(*_STEP, *columns, raw).join(own, on=_STEP, how="left")
    others = listed.filter(~(is_chosen().fill_null(value=False) & pl.col("chosen_logprob").is_not_null()))
    taken = pl.col("logprob").is_not_null().alias("taken")
    both = [
        chosen.select(*_STEP, "raw", "logprob", taken),
        others.select(*_STEP, "raw", "logprob", pl.lit(value=False).alias("taken")),
    ]
    return pl.concat(both).collect(engine="streaming")


def _scored(rows: pl.DataFrame, texts: _Texts) -> pl.DataFrame:
    """The options with a logprob: their `weight`, and `next`, the number of the text with the option after it."""
    scored = rows.filter(pl.col("logprob").is_not_null())
    return _with_next(scored.with_columns(weight=pl.col("reached") * pl.col("logprob").exp()), texts)


def _with_next(rows: pl.DataFrame, texts: _Texts) -> pl.DataFrame:
    """The rows with `next`; Python extends each different pair of a text and an option once."""
    pairs = rows.select("text", "raw").unique()
    found = [texts.extended(number, raw or b"\0") for number, raw in pairs.iter_rows()]
    pairs = pairs.with_columns(next=pl.Series(found, dtype=pl.UInt32))
    return rows.join(pairs, on=["text", "raw"], how="left", nulls_equal=True)


def _hidden(scored: pl.DataFrame, active: pl.DataFrame) -> pl.DataFrame:
    """By path that got to this step: the mass that was not shown, after the text so far."""
    shown = scored.group_by("path").agg(pl.col("weight").sum())
    rest = (pl.col("reached") - pl.col("weight").fill_null(0.0)).clip(0.0)
    return active.join(shown, on="path", how="left").select(
        "path", "text", weight=rest, hidden=pl.lit(value=True), taken=pl.lit(value=False)
    )


def _unscored(rows: pl.DataFrame, scored: pl.DataFrame, texts: _Texts) -> pl.DataFrame:
    """The options that have a logprob in no row of their path, with `next`."""
    unscored = rows.filter(pl.col("logprob").is_null()).join(scored, on=["path", "raw"], how="anti")
    return _with_next(unscored, texts)


def _with_much_hidden(rows: pl.DataFrame, hidden: pl.DataFrame) -> pl.Series:
    """The paths of the rows on which more than NEGLIGIBLE was not shown."""
    return hidden.filter(pl.col("path").is_in(rows["path"].implode()), pl.col("weight") > NEGLIGIBLE)["path"]


def _counts(seen: pl.DataFrame) -> pl.DataFrame:
    logprob = pl.col("logprob")
    return seen.group_by("path").agg(scored_alternatives=logprob.count(), unscored_alternatives=logprob.null_count())
