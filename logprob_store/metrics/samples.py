"""Several answers to one prompt: how much they vary, in words and in meaning.

Holds one row of scores per prompt, from one row of scores per answer: choices of one response, a job's samples, or
repeated runs. Leaves out scores of one answer (`scores`) and judging whether two answers mean the same: clusters come
from a column, from a function, or from texts that are alike but for case and white space.

Probabilities of answers underflow, so all is done with their logarithms.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final, TypeAlias

import polars as pl

from logprob_store.metrics.arguments import Column, as_column
from logprob_store.metrics.truth.judged_pairs import group_columns
from logprob_store.schema import CHOICES_PER_SAMPLE

Clusters: TypeAlias = str | pl.Expr | Callable[[list[str]], Sequence[Hashable]]
"""A column of the rows by name, an expression, or a function of a prompt's texts that gives each a cluster."""

PROMPT_KEYS: Final = ("run", "prompt_id")
_ANSWER_KEYS: Final = ("run", "sample_index", "choice_index")


def normalised_text(text: Column = "text") -> pl.Expr:
    """A text without what rarely matters: NFKC, lower case, white space as one space, no full stop at the end.

    Ends are stripped of white space, and the end of `.`, `!` and `?` as well. Two answers that are alike in this form
    count as one. Needs: a column of texts. Source: the exact match of SQuAD, Rajpurkar et al. 2016 (arXiv:1606.05250),
    which also drops articles and all punctuation; we keep them, for "1.5" is not "15". Null stays null.

    >>> pl.DataFrame({"text": [" The  Answer is PARIS. "]}).select(normalised_text()).item()
    'the answer is paris'
    """
    plain = as_column(text).str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\s+", " ")
    return plain.str.strip_chars().str.strip_chars_end(".!? ").alias("normalised_text")


def mc_entropy(column: Column = "logprob_sum") -> pl.Expr:
    """The entropy of a prompt's answers, estimated from its samples: -mean over samples of sum l.

    Of "mean_logprob" instead of "logprob_sum" it is the length-normalised form, in nats per token. Range [0, inf),
    nats, down is surer. Needs: one row per sample with its score. Source: Malinin and Gales 2021 (arXiv:2002.07650),
    equations 8 and 9; predictive entropy of Kuhn et al. 2023 (arXiv:2302.09664). Nulls are left out; none left gives
    null.

    Two answers of 1/2 and 1/8:

    >>> from math import log
    >>> round(pl.DataFrame({"logprob_sum": [log(0.5), log(0.125)]}).select(mc_entropy()).item(), 6)
    1.386294
    """
    return (0.0 - as_column(column).mean()).alias("mc_entropy")


def sample_scores(
    scores: pl.LazyFrame, *, clusters: Clusters | None = None, by: Sequence[str] = PROMPT_KEYS
) -> pl.LazyFrame:
    """One row per prompt: how much its answers vary.

    Columns: those of `by`; samples, how many answers there are; unscored_samples, how many of them have a token without
    a logprob or no token, and are in no probability; unclustered_samples, how many have no text, and are in no vote;
    mc_entropy, -mean of sum l, and mc_entropy_normalised, -mean of mean l, [0, inf), nats; majority, the cluster of
    most answers (of equals the likelier one, then the one that came first); agreement, its share of the answers that
    have a cluster, [0, 1], up is better; clusters, how many there are.

    semantic_entropy: -sum P(c) ln P(c) with P(c) = sum of P(s) over the samples of cluster c / sum of P over all, P(s)
    = exp(sum l); semantic_entropy_normalised: the same with P(s) = exp(mean l), so that long answers are not lost
    beside short ones; semantic_entropy_discrete: P(c) = the cluster's share of the answers, which needs no logprobs.
    [0, ln N], nats, down is surer. semantic_negentropy: 1 - semantic_entropy / ln N over the N scored answers that have
    a cluster, and semantic_negentropy_discrete; [0, 1], up is surer; null for fewer than two. A sample drawn twice
    counts twice, as published.

    semantic_entropy_monte_carlo: -mean over samples s of ln (sum of P over the cluster of s), nothing divided: (-inf,
    inf), nats, down is surer; below 0 where likely answers were drawn several times. It is here to be held against
    figures of LM-Polygraph, whose estimate it is.

    The token that ended an answer is not stored, so no P(s) has its probability in it, and an answer that is another's
    beginning is favoured.

    Args:
        scores: one row per answer, as `store.scores()` gives them: `by`, sample_index, choice_index, text, logprob_sum,
            mean_logprob, unscored_tokens.
        clusters: which answers mean the same: a column by name, an expression, or a function that is given the list of
            a prompt's texts and returns a cluster for each. None: alike in `normalised_text`. Nulls are in no cluster.
        by: what makes a prompt; `["prompt_id"]` to take several runs together.

    Source: Kuhn et al. 2023 (arXiv:2302.09664), Farquhar et al. 2024 (doi:10.1038/s41586-024-07421-0); negentropy:
    Bouchard and Chauhan 2025 (arXiv:2504.19254).

    Three answers of 1/2, 1/4 and 1/4, two of them "Paris": P is 3/4 and 1/4, H = 0.562335; counted, 2/3 and 1/3.

    >>> from math import log
    >>> rows = pl.LazyFrame(
    ...     {
    ...         "run": "r",
    ...         "prompt_id": "FR",
    ...         "sample_index": [0, 1, 2],
    ...         "choice_index": 0,
    ...         "text": ["Paris", "paris.", "Lyon"],
    ...         "logprob_sum": [log(0.5), log(0.25), log(0.25)],
    ...         "mean_logprob": [log(0.5), log(0.25), log(0.25)],
    ...         "unscored_tokens": 0,
    ...     }
    ... )
    >>> row = sample_scores(rows).collect().row(0, named=True)
    >>> row["majority"], round(row["agreement"], 6), row["clusters"]
    ('paris', 0.666667, 2)
    >>> round(row["semantic_entropy"], 6), round(row["semantic_entropy_discrete"], 6)
    (0.562335, 0.636514)
    >>> round(row["semantic_entropy_monte_carlo"], 6)  # (2 ln 4/3 + ln 4) / 3
    0.653886
    """
    by, scores = group_columns(by), scores.lazy()
    fully_scored = (pl.col("unscored_tokens") == 0) & pl.col("logprob_sum").is_not_null()
    answers = _with_clusters(scores, clusters, by).with_columns(
        # an answer with a token that nobody scored has no probability: the sum of the rest is too large
        _joint=pl.when(fully_scored).then(pl.col("logprob_sum")),
        _mean=pl.when(fully_scored).then(pl.col("mean_logprob")),
    )
    counted = answers.group_by(by).agg(
        pl.len().alias("samples"),
        pl.col("_joint").null_count().alias("unscored_samples"),
        pl.col("_cluster").null_count().alias("unclustered_samples"),
        mc_entropy("_joint"),
        mc_entropy("_mean").alias("mc_entropy_normalised"),
    )
    by_cluster = _cluster_scores(answers.filter(pl.col("_cluster").is_not_null()), by)
    table = counted.join(by_cluster, on=by, how="left", nulls_equal=True).with_columns(pl.col("clusters").fill_null(0))
    joint, discrete = pl.col("semantic_entropy"), pl.col("semantic_entropy_discrete")
    return table.with_columns(
        semantic_negentropy=_negentropy(joint, pl.col("_scored")),
        semantic_negentropy_discrete=_negentropy(discrete, pl.col("_voting")),
    ).drop("_scored", "_voting")


def _with_clusters(scores: pl.LazyFrame, clusters: Clusters | None, by: list[str]) -> pl.LazyFrame:
    if clusters is None:
        return scores.with_columns(_cluster=normalised_text())
    if isinstance(clusters, str | pl.Expr):
        return scores.with_columns(_cluster=as_column(clusters))
    return _clusters_by_function(scores, clusters, by)


def _clusters_by_function(
    scores: pl.LazyFrame, cluster_texts: Callable[[list[str]], Sequence[Hashable]], by: list[str]
) -> pl.LazyFrame:
    """The clusters that a function gives: it is called once for each prompt, with the texts in order."""
    order = [column for column in _ANSWER_KEYS if column not in by]
    with_text = scores.filter(pl.col("text").is_not_null()).sort(*by, *order, maintain_order=True)
    listed = with_text.group_by(by, maintain_order=True).agg(*order, "text")
    schema = {**listed.collect_schema(), "_cluster": pl.List(pl.String)}

    def cluster(frame: pl.DataFrame) -> pl.DataFrame:
        clusters_of_prompts = []
        for prompt, *_, texts in frame.select(pl.struct(by), "text").iter_rows():
            given = [None if cluster is None else str(cluster) for cluster in cluster_texts(texts)]
            if len(given) != len(texts):
                raise ValueError(f"the clusters of {prompt} are {len(given)} for {len(texts)} texts; give one for each")
            clusters_of_prompts.append(given)
        return frame.with_columns(pl.Series("_cluster", clusters_of_prompts, dtype=pl.List(pl.String)))

    clustered = listed.map_batches(cluster, schema=schema).explode(*order, "text", "_cluster").drop("text")
    return scores.join(clustered, on=[*by, *order], how="left", nulls_equal=True)


def _cluster_scores(answers: pl.LazyFrame, by: list[str]) -> pl.LazyFrame:
    clusters = answers.group_by(*by, "_cluster").agg(
        pl.len().alias("_count"),
        pl.col("_joint").count().alias("_scored_count"),
        _log_sum_exp("_joint"),
        _log_sum_exp("_mean"),
        _asked_order().min().alias("_first_asked"),
    )
    ranked = pl.col("_cluster").sort_by(
        "_count", "_joint", "_first_asked", "_cluster", descending=[True, True, False, False], nulls_last=True
    )
    return clusters.group_by(by).agg(
        ranked.first().alias("majority"),
        (pl.col("_count").max() / pl.col("_count").sum()).alias("agreement"),
        pl.len().alias("clusters"),
        _entropy_of_logs("_joint").alias("semantic_entropy"),
        (0.0 - (pl.col("_joint") * pl.col("_scored_count")).sum() / _or_null(pl.col("_scored_count").sum())).alias(
            "semantic_entropy_monte_carlo"
        ),
        _entropy_of_logs("_mean").alias("semantic_entropy_normalised"),
        _entropy_of_logs(pl.col("_count").cast(pl.Float64).log()).alias("semantic_entropy_discrete"),
        pl.col("_scored_count").sum().alias("_scored"),
        pl.col("_count").sum().alias("_voting"),
    )


def _asked_order() -> pl.Expr:
    """The order in which a prompt's answers were asked for."""
    return pl.col("sample_index").cast(pl.Int64) * CHOICES_PER_SAMPLE + pl.col("choice_index").cast(pl.Int64)


def _log_sum_exp(column: str) -> pl.Expr:
    """Ln of the sum of the probabilities; null where there is none."""
    values = pl.col(column)
    return (values.max() + (values - values.max()).exp().sum().log()).alias(column)


def _entropy_of_logs(column: Column) -> pl.Expr:
    """-sum P ln P over shares P, given the ln of each mass up to a constant; null where there is none."""
    values = as_column(column)
    # ln P(c) = v - ln sum exp v; the largest is taken out so that the exponentials do not underflow
    shifted = values - values.max()
    total = shifted.exp().sum()
    entropy = total.log() - (shifted.exp() * shifted).sum() / total
    return pl.when(values.count() > 0).then(entropy.clip(lower_bound=0.0))


def _or_null(count: pl.Expr) -> pl.Expr:
    """The count, null where it is 0: something to divide by."""
    return pl.when(count > 0).then(count)


def _negentropy(entropy: pl.Expr, samples: pl.Expr) -> pl.Expr:
    return pl.when(samples > 1).then((1 - entropy / samples.cast(pl.Float64).log()).clip(0.0, 1.0))
