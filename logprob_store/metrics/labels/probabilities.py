"""Label probabilities: how likely each of some answers is at a place, over all spellings, with what cannot be known.

Leaves out what a text is to the labels (`spelling`), where to look (`places`), following an answer along its tokens
(`branches`) and what is made of the probabilities (`label_scores`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import polars as pl

from logprob_store.errors import LabelsCollideError
from logprob_store.metrics.arguments import check_sections
from logprob_store.metrics.engine.lazy_source import scan_in_batches
from logprob_store.metrics.labels.branches import DEEPEST, NEGLIGIBLE, Branches, follow
from logprob_store.metrics.labels.location import check_place, places
from logprob_store.metrics.labels.spelling import ALL_DIFFERENCES, Difference, Labels, Spelling
from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Labels", "Shared", "label_probabilities"]

Shared: TypeAlias = Literal["error", "bound", "whole"]

_COLUMNS: Final = pl.Schema(
    {
        "position": pl.Int32(),
        "label_index": pl.Int32(),
        "label": pl.String(),
        "mass": pl.Float64(),
        "mass_lower": pl.Float64(),
        "mass_upper": pl.Float64(),
        "probability": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "coverage": pl.Float64(),
        "unknown_mass": pl.Float64(),
        "scored_alternatives": pl.UInt32(),
        "unscored_alternatives": pl.UInt32(),
    }
)
_TOKEN_ROWS: Final = 250_000
_ROUNDED: Final = 1.001
"""Wire logprobs are rounded, and their p may sum to this much and be 1."""


def label_probabilities(
    tokens: pl.LazyFrame,
    alternatives: pl.LazyFrame,
    labels: Labels,
    *,
    after: str | None = None,
    field: str | None = None,
    ignore: Collection[Difference] = ALL_DIFFERENCES,
    shared: Shared = "error",
    section: str = "content",
) -> pl.LazyFrame:
    """One row per completion and label: how likely the model was to give that label.

    Columns: run, completion_id, section, position (of the label's first token); label_index and label; mass, p(y), the
    sum over all spellings, [0, 1]; mass_lower and mass_upper, between which it is, given what was not shown;
    probability, p(y) divided by the coverage, [0, 1], up is surer, and its bounds lower and upper; coverage, the sum of
    p(y) over the labels, [0, 1], up is better: what the probabilities say holds for that much; unknown_mass, of which
    nobody knows whose it is; scored_alternatives and unscored_alternatives, how many tokens were looked at, the chosen
    one included, with and without a logprob.

    What counts for y: tokens that spell it, whatever the white space, case and quotes around it (see `ignore`), or that
    begin it and no other label ("Polit" for Politics: in mass, not in mass_lower, for it may go on otherwise). The
    chosen token counts once, listed or not. Where the answer took a token that only begins labels, the alternatives to
    its next are looked at, times what led there; so a label of several tokens is exact along the answer's path. What
    was not taken cannot be followed: it is in the bounds, as is the mass m that was not shown. Lower bounds give all of
    that to others, upper bounds all to y.

    Labels that share their beginning: a token that begins several ("not" of "not relevant" and "not sure"), or spells
    one and begins another ("1" of 1 and 10), can be told apart where the answer took it. Where it did not, it cannot:
    an error with `shared="error"`, if its p is above 0.01. With `shared="bound"` what begins several is only in the
    bounds, and what spells one counts for it, and in the other's bounds. With `shared="whole"` what spells one is that
    one: right where the tokenizer writes 10 as one token.

    Nulls: no token at the place, or no mass on any label, gives null probabilities. Alternatives without a logprob
    are in the mass not shown; where one of them spells or begins a label and that mass is above 0.01, the
    probabilities are null and the bounds say what can be known, for the label without one may be the likelier (a p
    that rounding took above 1 is flagged, too). One alternative is enough, since the bounds say what it hides. Needs:
    the tokens and alternatives tables. Source: OpenAI cookbook, "Using logprobs", section 1; bounds: the
    probabilities sum to 1.

    Args:
        tokens: the tokens table.
        alternatives: the alternatives table.
        labels: the labels, or a mapping of each to its spellings, as `{"yes": ["yes", "true"], "no": ["no", "false"]}`.
        after: the label stands behind the last of these texts, such as "Answer:"; default: at the answer's beginning.
        field: the label is the value at this RFC 6901 path of a JSON answer, such as "/sentiment".
        ignore: the differences in spelling that do not matter: "space", "case", "quotes" (with brackets and asterisks).
        shared: what to do with a beginning that several labels share and that was not taken.
        section: the section to look in.

    Raises:
        ValueError: both `after` and `field`, an empty `after`, a `field` that is no path, a section that there is not,
            or labels that are none, empty or spelled alike.
        LabelsCollideError: when computed; see `shared`.

    "True" has 1/2 and " true" 1/8, "False" 1/4; of 1/8 nobody knows:

    >>> from math import log
    >>> rows = {"token": ["True", "False", " true"], "logprob": [log(1 / 2), log(1 / 4), log(1 / 8)]}
    >>> alternatives = pl.LazyFrame(rows).with_columns(
    ...     pl.lit("r").alias("run"), pl.lit("content").alias("section"), completion_id=0, position=0,
    ...     bytes=pl.lit(None, pl.Binary), token_id=pl.lit(None, pl.Int32)
    ... )
    >>> table = label_probabilities(alternatives.head(1), alternatives, ["True", "False"])
    >>> numbers = pl.col("mass", "probability", "lower", "upper", "coverage", "unknown_mass").round(6)
    >>> table.select("label", numbers).collect().rows()
    [('True', 0.625, 0.714286, 0.625, 0.75, 0.875, 0.125), ('False', 0.25, 0.285714, 0.25, 0.375, 0.875, 0.125)]
    """
    check_place(after, field)
    check_sections([section])
    if shared not in get_args(Shared):
        raise ValueError(f"shared {shared!r} is none of {', '.join(get_args(Shared))}")
    spelling = Spelling(labels, ignore)
    own = tokens.filter(pl.col("section") == section)
    if after is None and field is None:
        # What lies further behind is never looked at; long answers are not read.
        own = own.filter(pl.col("position") < 2 * DEEPEST)
    others = alternatives.filter(pl.col("section") == section)
    kinds = tokens.collect_schema()
    schema = pl.Schema({**{name: kinds[name] for name in (*KEYS, "section")}, **_COLUMNS})

    def compute(part: pl.LazyFrame, condition: pl.Expr) -> pl.DataFrame:
        found = places(part, after=after, field=field).with_row_index("path")
        branches = follow(found, part, others.filter(condition), spelling, whole_counts=shared == "whole")
        if shared == "error":
            _refuse_shared(branches, found, spelling)
        masses = _masses(branches, whole_counts=shared == "whole")
        return _table(found, masses, branches, spelling).select(
            pl.col(name).cast(kind) for name, kind in schema.items()
        )

    return scan_in_batches(own, compute, schema, explain_name="label_probabilities", rows_per_batch=_TOKEN_ROWS)


def _masses(branches: Branches, *, whole_counts: bool) -> pl.DataFrame:
    """By path and label: the mass that is surely its, that counts for it, that may be its, that is its or nobody's."""
    rows = []
    for number, reading in enumerate(branches.readings):
        closed = reading.whole is not None and (whole_counts or not reading.open)
        for hidden in (False, True):
            for label in (reading.whole,) if closed and not hidden else reading.may:
                alone = len(reading.may) == 1
                counts = not hidden and not reading.blank and (label == reading.whole or (alone and reading.open))
                sure = closed and not hidden
                rows.append((number, hidden, label, sure, counts, not sure, not sure and alone))
    flags = ("sure", "counts", "possible", "alone")
    schema = {"reading": pl.UInt32, "hidden": pl.Boolean, "label_index": pl.Int32, **dict.fromkeys(flags, pl.Float64)}
    whose = pl.DataFrame(rows, schema=schema, orient="row")
    unknown = whose.group_by("reading", "hidden").agg(pl.col("possible").max().alias("unknown"))
    keys = ["reading", "hidden"]
    spread = branches.weights.join(whose, on=keys, how="inner")
    by_label = spread.group_by("path", "label_index").agg((pl.col(flags) * pl.col("weight")).sum())
    total = branches.weights.join(unknown, on=keys, how="inner")
    by_path = total.group_by("path").agg(unknown_mass=(pl.col("unknown") * pl.col("weight")).sum())
    return by_path.join(by_label, on="path", how="left")


def _table(found: pl.DataFrame, masses: pl.DataFrame, branches: Branches, spelling: Spelling) -> pl.DataFrame:
    """The columns of the result, from each label's masses."""
    names = (
        pl.DataFrame({"label": spelling.names})
        .with_row_index("label_index")
        .with_columns(pl.col("label_index").cast(pl.Int32))
    )
    flags = pl.col("sure", "counts", "possible", "alone")
    table = (
        found.join(branches.looked_at, on="path", how="left")
        .join(masses.select("path", "unknown_mass").unique("path"), on="path", how="left")
        .join(names, how="cross")
        .join(masses.drop("unknown_mass"), on=["path", "label_index"], how="left")
        .with_columns(
            pl.col("scored_alternatives", "unscored_alternatives").fill_null(0),
            pl.when(pl.col("scored_alternatives") > 0).then(flags.fill_null(0.0)),
            pl.when(pl.col("scored_alternatives") > 0).then(pl.col("unknown_mass").fill_null(0.0)),
        )
        .sort("path", "label_index")
    )
    sure, possible, unknown = pl.col("sure"), pl.col("possible"), pl.col("unknown_mass")
    all_sure, coverage = sure.sum().over("path"), pl.col("counts").sum().over("path")
    coverage = pl.when(pl.col("scored_alternatives") > 0).then(coverage)
    return table.with_columns(
        mass=_at_most_one(pl.col("counts")),
        mass_lower=_at_most_one(sure),
        mass_upper=(sure + possible).clip(0.0, 1.0),
        coverage=_at_most_one(coverage),
        probability=pl.when(coverage > 0, ~pl.col("path").is_in(branches.untold.implode())).then(
            pl.col("counts") / coverage
        ),
        lower=_share(sure, all_sure - sure + (unknown - pl.col("alone")).clip(0.0)),
        upper=_share(sure + possible, all_sure - sure),
        unknown_mass=_at_most_one(unknown),
    ).with_columns(pl.when(pl.col("coverage") > 0).then(pl.col("lower", "upper")))


def _share(own: pl.Expr, others: pl.Expr) -> pl.Expr:
    total = own + others
    return pl.when(total > 0).then(own / total).otherwise(0.0)


def _at_most_one(mass: pl.Expr) -> pl.Expr:
    return pl.when(mass.is_between(1.0, _ROUNDED)).then(1.0).otherwise(mass)


def _refuse_shared(branches: Branches, found: pl.DataFrame, spelling: Spelling) -> None:
    """Raise where mass on a beginning that several labels share cannot be told apart."""
    several = [number for number, reading in enumerate(branches.readings) if len(reading.may) > 1 and not reading.blank]
    cannot = branches.weights.filter(pl.col("reading").is_in(several) & ~pl.col("hidden") & ~pl.col("taken"))
    worst = cannot.filter(pl.col("weight") > NEGLIGIBLE).sort("path").head(1)
    for path, reading, weight in worst.select("path", "reading", "weight").iter_rows():
        where = found.row(found["path"].index_of(path) or 0, named=True)
        text = branches.texts[reading].decode("utf-8", "replace")
        names = spelling.named(branches.readings[reading].may)
        raise LabelsCollideError(names, text, weight, f"completion {where['completion_id']} of run {where['run']}")
