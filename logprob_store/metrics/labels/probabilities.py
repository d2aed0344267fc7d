"""Label probabilities: how likely each of several labels was, over all its spellings, with bounds for what is unknown.

Which label a text matches is in `spelling`, where to look in `location`, following the tokens of an answer in
`branches`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import polars as pl

from logprob_store.errors import LabelsCollideError
from logprob_store.metrics.arguments import check_sections
from logprob_store.metrics.engine.lazy_source import scan_in_batches
from logprob_store.metrics.labels.branches import MOST_LABEL_TOKENS, NEGLIGIBLE, Branches, follow_answers
from logprob_store.metrics.labels.location import check_location, label_locations
from logprob_store.metrics.labels.spelling import ALL_DIFFERENCES, Difference, Labels, Spellings
from logprob_store.metrics.right_table import check_table
from logprob_store.metrics.spans.token_offsets import LOCATED
from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Collection

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
"""Token rows at a time, because alternatives are many times as many."""

_ROUNDED: Final = 1.001
"""Masses up to this count as 1: logprobs are rounded, so probabilities may sum to more."""


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
    r"""How likely the model was to give each label: one row per completion and label.

    Columns:

    - `run`, `completion_id`, `section`
    - `position`: of the first token of the label; null where the answer does not have the location
    - `label_index`, `label`
    - `mass`: p(y); [0, 1]
    - `mass_lower`, `mass_upper`: bounds of p(y), given what was not shown; [0, 1]. One thing is taken for granted: a
      whole label behind which no token is stored, as where the answer ends or where it chose another, is that label
    - `probability`: p(y) / coverage; [0, 1], higher is surer
    - `lower`, `upper`: bounds of the probability; [0, 1]
    - `coverage`: the sum of p(y) over the labels; [0, 1], higher is better: the probabilities hold for this share of
      the mass
    - `unknown_mass`: the mass that may belong to one label or another, or to none: what was not shown at any token of
      the label and at the one behind it, and the beginnings, white space and quotes that the answer did not choose;
      [0, 1], lower is better
    - `scored_alternatives`, `unscored_alternatives`: how many tokens were read, with a logprob and without, the chosen
      ones included

    Formula: p(y) = the sum of p over all spellings of y, along the tokens that the answer chose. Let L(y) be the mass
    that is certainly y's, U(y) the other mass that may be y's, O(y) the part of U(y) that can be no other label's, and
    u the unknown mass. Then mass_lower = L(y), mass_upper = L(y) + U(y), lower = L(y) / (sum of L + u - O(y)), and
    upper = (L(y) + U(y)) / (sum of L + U(y)), each sum over all labels. Masses that rounding takes above 1 count as 1.
    Range: [0, 1], higher is surer. Unit: none.
    Needs: the tokens and alternatives tables. One alternative is enough, because the bounds include what was not shown.
    Nulls: no token at the location, or no mass on any label (coverage 0), gives null probabilities. Alternatives
    without a logprob are in the mass that was not shown. Where one of them spells or begins a label and that mass is
    above 0.01, the probabilities are null and the bounds hold: the label of that alternative may be the likelier one (a
    p that rounding took above 1 has no logprob either), and a stray e^-16 for another label would else decide.
    Source: OpenAI cookbook, "Using logprobs", section 1. The bounds follow because the probabilities sum to 1.

    What counts for y: tokens that spell it, whatever the white space, case, form and quotes around it (see `ignore`),
    and tokens that begin it and no other label. "Polit" counts for Politics in `mass`, but not in `mass_lower`, because
    it may go on otherwise. The chosen token counts once, listed or not. Where the answer chose a token that begins
    labels, or that spells one, the alternatives to its next token are read, times the probability of what came before.
    So a label of several tokens, up to 16, is exact along the tokens of the answer, and the answer "no" + "thing" is no
    "no". What was not shown behind a whole label is in its `mass` and not in its `mass_lower`, as few words go on.
    Beginnings that the answer did not choose cannot be followed. They are in the bounds, as is the mass that was not
    shown: the lower bounds give all of it to others, the upper bounds all of it to y.

    Where a label ends: at a sign or a space, as in "True." and "4/5", and not where its word or number goes on:
    "Truely", "no-one", "isn't", "snake_case", "4.5" and "4-5" are none of True, no, is, snake and 4; 4.0 is 4. A label
    whose last character is a sign ends there. Scripts without spaces are no exception: give the spellings that count.

    How a label may be written: JSON escapes are their characters, `R\u00e9sum\u00e9` is Résumé. Where a server shows
    tokens as its vocabulary has them, "Ġyes" (byte-level BPE) and "▁yes" (SentencePiece) are " yes". Not read are HTML
    entities, tags, text that is struck out, and signs of lists and block quotes ("- yes", "1. yes"): give a spelling,
    as in `{"R&D": ["R&D", "R&amp;D"]}`.

    Labels that share a beginning: a token that begins several labels ("not" of "not relevant" and "not sure"), or that
    spells one and begins another ("1" of 1 and 10), can be decided where the answer chose it. Where it did not,
    `shared` decides:

    - "error": an error, if the p of that token is above 0.01
    - "bound": what begins several labels is in the bounds only; what spells one counts for that one, and is in the
      bounds of the others
    - "whole": as "bound", but what spells a label is that label where the answer did not choose it, or ends with it.
      Right where the tokenizer writes 10 as one token. Where the answer goes on behind it, the next token decides

    Args:
        tokens: the tokens table.
        alternatives: the alternatives table.
        labels: the labels, or a mapping of each to its spellings, as `{"yes": ["yes", "true"], "no": ["no", "false"]}`.
        after: the label comes after the last occurrence of this text, such as "Answer:"; by default it begins the
            answer. Where one token ends this text and begins the label, only alternatives that begin alike count.
        field: the label is the value at this RFC 6901 path of a JSON answer, such as "/sentiment"; what `after` says of
            tokens holds here, too.
        ignore: the differences in spelling that do not matter: "space"; "case"; "quotes" before the label, with
            brackets and Markdown's signs, and whether quotes are curly; "form", how Unicode has it: composed or not,
            full-width or not, with signs that cannot be seen.
        shared: what to do with a beginning that several labels share and that the answer did not choose.
        section: the section to read.

    Raises:
        ValueError: both `after` and `field` are given, `after` is empty, `field` is not a path, the section or `shared`
            is unknown, or the labels are none, empty or spelled alike.
        LabelsCollideError: when collected; see `shared`. The error names the labels.

    "True" has 1/2 and " true" 1/8, "False" 1/4; 1/8 was not shown:

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
    return label_probabilities_in_parts(
        tokens, alternatives, labels, after=after, field=field, ignore=ignore, shared=shared, section=section
    )


def label_probabilities_in_parts(
    tokens: pl.LazyFrame,
    alternatives: pl.LazyFrame,
    labels: Labels,
    *,
    after: str | None = None,
    field: str | None = None,
    ignore: Collection[Difference] = ALL_DIFFERENCES,
    shared: Shared = "error",
    section: str = "content",
    rows: int = _TOKEN_ROWS,
) -> pl.LazyFrame:
    """`label_probabilities`, computed over completions with about `rows` token rows at a time."""
    check_location(after, field)
    check_sections([section])
    if shared not in get_args(Shared):
        raise ValueError(f"shared {shared!r} is none of {', '.join(get_args(Shared))}")
    spellings = Spellings(labels, ignore)
    kinds = check_table(tokens, "tokens", "label_probabilities", LOCATED)
    check_table(alternatives, "alternatives", "label_probabilities", LOCATED)
    own = tokens.filter(pl.col("section") == section)
    if after is None and field is None:
        # Later tokens cannot belong to the label: the rest of a long answer need not be read.
        own = own.filter(pl.col("position") < 2 * MOST_LABEL_TOKENS)
    others = alternatives.filter(pl.col("section") == section)
    schema = pl.Schema({**{name: kinds[name] for name in (*KEYS, "section")}, **_COLUMNS})

    def compute(part: pl.LazyFrame, condition: pl.Expr) -> pl.DataFrame:
        locations = label_locations(part, after=after, field=field).with_row_index("path")
        whole_counts = shared == "whole"
        branches = follow_answers(locations, part, others.filter(condition), spellings)
        if shared == "error":
            _refuse_shared_beginnings(branches, locations, spellings)
        masses = _masses(branches, whole_counts=whole_counts)
        return _table(locations, masses, branches, spellings).select(
            pl.col(name).cast(kind) for name, kind in schema.items()
        )

    return scan_in_batches(own, compute, schema, explain_name="label_probabilities", rows_per_batch=rows)


def _masses(branches: Branches, *, whole_counts: bool) -> pl.DataFrame:
    """By path and label: the masses that `_claims` gives the label, and the `unknown_mass` of the path."""
    claims = _claims(branches, whole_counts=whole_counts)
    unknown = claims.group_by("text", "hidden").agg(pl.col("possible").max().alias("unknown"))
    keys = ["text", "hidden"]
    flags = pl.col("certain", "counts", "possible", "only")
    by_label = branches.weights.join(claims, on=keys, how="inner")
    by_label = by_label.group_by("path", "label_index").agg((flags * pl.col("weight")).sum())
    by_path = branches.weights.join(unknown, on=keys, how="inner")
    by_path = by_path.group_by("path").agg(unknown_mass=(pl.col("unknown") * pl.col("weight")).sum())
    return by_path.join(by_label, on="path", how="left")


def _claims(branches: Branches, *, whole_counts: bool) -> pl.DataFrame:
    """By text, `hidden` and label that it may be, what its mass is to the label, as 0.0 or 1.0.

    `certain`: it is the label's. `counts`: it is in the `mass` of the label. `possible`: it may be the label's, and is
    not certain. `only`: it may be this label's and no other's. What was not shown behind a whole label counts, and is
    not certain: few words go on.
    """
    rows = []
    for number, match in enumerate(branches.matches):
        closed = match.spelled is not None and (whole_counts or not match.undecided)
        for hidden in (False, True):
            certain = closed and not hidden
            labels = {match.spelled} if closed else match.possible
            for label in labels:
                only = len(labels) == 1
                begun = not hidden and not match.blank and (label == match.spelled or (only and match.undecided))
                counts = begun or closed
                rows.append((number, hidden, label, certain, counts, not certain, not certain and only))
    flags = dict.fromkeys(("certain", "counts", "possible", "only"), pl.Float64)
    schema = {"text": pl.UInt32, "hidden": pl.Boolean, "label_index": pl.Int32, **flags}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _table(locations: pl.DataFrame, masses: pl.DataFrame, branches: Branches, spellings: Spellings) -> pl.DataFrame:
    """The columns of the result, from the masses of each label."""
    table = _by_path_and_label(locations, masses, branches, spellings)
    certain, possible, unknown = pl.col("certain"), pl.col("possible"), pl.col("unknown_mass")
    all_certain, coverage = certain.sum().over("path"), pl.col("counts").sum().over("path")
    coverage = pl.when(pl.col("scored_alternatives") > 0).then(coverage)
    is_known = ~pl.col("path").is_in(branches.ambiguous.implode())
    return table.with_columns(
        mass=_at_most_one(pl.col("counts")),
        mass_lower=_at_most_one(certain),
        mass_upper=(certain + possible).clip(0.0, 1.0),
        coverage=_at_most_one(coverage),
        probability=pl.when(coverage > 0, is_known).then(pl.col("counts") / coverage),
        lower=_share(certain, all_certain - certain + (unknown - pl.col("only")).clip(0.0)),
        upper=_share(certain + possible, all_certain - certain),
        unknown_mass=_at_most_one(unknown),
    ).with_columns(pl.when(pl.col("coverage") > 0).then(pl.col("lower", "upper")))


def _by_path_and_label(
    locations: pl.DataFrame, masses: pl.DataFrame, branches: Branches, spellings: Spellings
) -> pl.DataFrame:
    """One row per path and label, in order; masses are 0 where the label has none, null where nothing is scored."""
    names = (
        pl.DataFrame({"label": spellings.names})
        .with_row_index("label_index")
        .with_columns(pl.col("label_index").cast(pl.Int32))
    )
    flags = pl.col("certain", "counts", "possible", "only")
    is_scored = pl.col("scored_alternatives") > 0
    return (
        locations.join(branches.counts, on="path", how="left")
        .join(masses.select("path", "unknown_mass").unique("path"), on="path", how="left")
        .join(names, how="cross")
        .join(masses.drop("unknown_mass"), on=["path", "label_index"], how="left")
        .with_columns(
            pl.col("scored_alternatives", "unscored_alternatives").fill_null(0),
            pl.when(is_scored).then(flags.fill_null(0.0)),
            pl.when(is_scored).then(pl.col("unknown_mass").fill_null(0.0)),
        )
        .sort("path", "label_index")
    )


def _share(own: pl.Expr, others: pl.Expr) -> pl.Expr:
    total = own + others
    return pl.when(total > 0).then(own / total).otherwise(0.0)


def _at_most_one(mass: pl.Expr) -> pl.Expr:
    return pl.when(mass.is_between(1.0, _ROUNDED)).then(1.0).otherwise(mass)


def _refuse_shared_beginnings(branches: Branches, locations: pl.DataFrame, spellings: Spellings) -> None:
    """Raise where more than NEGLIGIBLE is on a beginning that several labels share and that the answer did not take.

    Raises:
        LabelsCollideError: which labels, which beginning and where.
    """
    shared = [number for number, match in enumerate(branches.matches) if len(match.possible) > 1 and not match.blank]
    untaken = branches.weights.filter(pl.col("text").is_in(shared) & ~pl.col("hidden") & ~pl.col("taken"))
    first = untaken.filter(pl.col("weight") > NEGLIGIBLE).sort("path").head(1)
    for path, number, weight in first.select("path", "text", "weight").iter_rows():
        where = locations.row(locations["path"].index_of(path) or 0, named=True)
        text = branches.texts[number].decode("utf-8", "replace")
        names = spellings.quoted(branches.matches[number].possible)
        raise LabelsCollideError(names, text, weight, f"completion {where['completion_id']} of run {where['run']}")
