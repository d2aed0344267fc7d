"""Several answers to one prompt: how much they vary, in words and in meaning.

The answers are the choices of one response, the samples of a job, or repeated runs. Probabilities of long answers
underflow, so all sums are computed from logarithms.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final, TypeAlias

import polars as pl

from logprob_store.metrics.arguments import Column, as_column
from logprob_store.metrics.right_table import of_given_column
from logprob_store.metrics.truth.judged_pairs import group_columns
from logprob_store.schema import CHOICES_PER_SAMPLE

Clusters: TypeAlias = str | pl.Expr | Callable[[list[str]], Sequence[Hashable]]
"""A column name or an expression of clusters, or a function from the texts of a prompt to a cluster for each."""

PROMPT_KEYS: Final = ("run", "prompt_id")
_ANSWER_KEYS: Final = ("run", "sample_index", "choice_index")


def normalised_text(text: Column = "text") -> pl.Expr:
    """A text in a form that ignores case, white space and the punctuation at its end.

    Formula: NFKC, lower case, runs of white space as one space, no white space at the ends, no `.`, `!`, `?` or space
    at the end. Two answers with equal forms count as the same answer.
    Range: any text in that form.
    Needs: a column of texts.
    Nulls: null stays null.
    Source: the exact match of SQuAD, Rajpurkar et al. 2016 (arXiv:1606.05250), which also removes articles and all
    punctuation; here they stay, because "1.5" is not "15".

    Case, spaces and the full stop go:

    >>> pl.DataFrame({"text": [" The  Answer is PARIS. "]}).select(normalised_text()).item()
    'the answer is paris'
    """
    plain = as_column(text).str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\s+", " ")
    return plain.str.strip_chars().str.strip_chars_end(".!? ").alias("normalised_text")


def mc_entropy(column: Column = "logprob_sum") -> pl.Expr:
    """The entropy of the answers to a prompt, estimated from samples (Monte Carlo).

    Formula: -mean over samples of sum l. Of the column "mean_logprob" it is the length-normalised form.
    Range: [0, inf), lower is surer. Unit: nats; nats per token for the length-normalised form.
    Needs: one row per sample with its logprob sum, as `store.scores()` gives them:
    `store.scores().group_by("run", "prompt_id").agg(ls.mc_entropy())`.
    Nulls: left out; no value gives null.
    Source: Malinin and Gales 2021 (arXiv:2002.07650), equations 8 and 9; the predictive entropy of Kuhn et al. 2023
    (arXiv:2302.09664).

    Two answers of 1/2 and 1/8: (ln 2 + 3 ln 2) / 2 = 2 ln 2 = 1.386294.

    >>> from math import log
    >>> round(pl.DataFrame({"logprob_sum": [log(0.5), log(0.125)]}).select(mc_entropy()).item(), 6)
    1.386294
    """
    return of_given_column(column, lambda sums: 0.0 - sums.mean(), function="mc_entropy", table="scores")


def sample_scores(
    scores: pl.LazyFrame, *, clusters: Clusters | None = None, by: Sequence[str] = PROMPT_KEYS
) -> pl.LazyFrame:
    """How much the answers to each prompt vary: one row per prompt.

    Columns, with P(s) = exp(sum l) the probability of sample s, and N the scored answers that have a cluster:

    - those of `by`
    - `samples`: the number of answers
    - `unscored_samples`: answers with an unscored token or without a token; they are in no probability, but they vote
    - `unclustered_samples`: answers without a cluster; they do not vote
    - `mc_entropy`: -mean of sum l; [0, inf), nats, lower is surer
    - `mc_entropy_normalised`: -mean of mean l; [0, inf), nats per token, lower is surer
    - `majority`: the cluster with the most answers; of equals the likelier one, then the one that was asked first
    - `agreement`: its share of the answers that have a cluster; [0, 1], higher is surer
    - `clusters`: the number of clusters
    - `semantic_entropy`: -sum over clusters c of P(c) ln P(c), P(c) = sum of P(s) in c / sum of all P(s); [0, ln N],
      nats, lower is surer
    - `semantic_entropy_normalised`: the same with P(s) = exp(mean l), so that long answers count as much as short ones
    - `semantic_entropy_discrete`: the same with P(c) = the share of answers in c, which needs no logprobs
    - `semantic_entropy_monte_carlo`: -mean over samples s of ln(sum of P in the cluster of s), not normalised; (-inf,
      inf), nats, lower is surer; below 0 where likely answers were sampled several times. LM-Polygraph calls this
      estimate semantic entropy, so compare it with figures from there
    - `semantic_negentropy`: 1 - semantic_entropy / ln N; [0, 1], higher is surer
    - `semantic_negentropy_discrete`: 1 - semantic_entropy_discrete / ln of the answers that have a cluster

    A sample that was drawn twice counts twice, as published. The token that ended an answer is not stored and so not in
    P(s): an answer that is the beginning of another has the probability of writing these letters, not of stopping
    there, and is given too much weight. `semantic_entropy_discrete` is not affected.

    Needs: one row per answer, as `store.scores()` gives them: `by`, sample_index, choice_index, text, logprob_sum,
    mean_logprob, unscored_tokens.
    Nulls: entropies are null where no answer is scored and has a cluster (of the discrete form: has a cluster);
    negentropies also where only one is.
    Source: Kuhn et al. 2023 (arXiv:2302.09664); Farquhar et al. 2024 (doi:10.1038/s41586-024-07421-0); negentropy,
    Bouchard and Chauhan 2025 (arXiv:2504.19254).

    Args:
        scores: one row per answer.
        clusters: which answers mean the same: a column name, an expression, or a function, called once per prompt, that
            takes the list of its texts and returns a cluster for each, by an NLI model of yours for example. None:
            answers with equal `normalised_text`. A null is no cluster.
        by: the columns that identify a prompt; `["prompt_id"]` takes several runs together.

    Raises:
        ValueError: when collected, the function returns another number of clusters than it was given texts.

    Three answers of 1/2, 1/4 and 1/4, two of them "Paris": P is 3/4 and 1/4, entropy 0.562335; counted, 2/3 and 1/3.

    >>> from math import log
    >>> logprobs = [log(0.5), log(0.25), log(0.25)]
    >>> rows = {"run": "r", "prompt_id": "FR", "sample_index": [0, 1, 2], "choice_index": 0, "unscored_tokens": 0}
    >>> rows |= {"text": ["Paris", "paris.", "Lyon"], "logprob_sum": logprobs, "mean_logprob": logprobs}
    >>> row = sample_scores(pl.LazyFrame(rows)).collect().row(0, named=True)
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
        # The sum of the other tokens would be too large for an answer with an unscored token.
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


def confidence_vote(
    scores: pl.LazyFrame,
    *,
    confidence: Column = "mean_token_confidence",
    clusters: Clusters | None = None,
    keep: float = 1.0,
    by: Sequence[str] = PROMPT_KEYS,
) -> pl.LazyFrame:
    """A vote of the answers to each prompt, weighted by their confidence: one row per prompt.

    Columns:

    - those of `by`
    - `answer`: the cluster with the largest sum of confidences; of equals, the one that was asked first
    - `share`: its sum, divided by the sum of all that voted; [0, 1], higher is surer
    - `votes`: the answers that voted, after filtering
    - `filtered`: answers left out because their confidence is too low
    - `without_vote`: answers without a confidence or without a cluster

    Formula: the answers whose confidence is at or above the (1 - keep) quantile (linear) of those of the prompt vote;
    each vote weighs its confidence.
    Range: see the columns. Unit: none.
    Needs: one row per answer with `by`, sample_index, choice_index, text and the confidence, as
    `store.scores(metrics=["mean_token_confidence"])` gives them. The published measures are `mean_token_confidence` and
    those of `group_confidence`; any number that is not negative and higher where the model is surer will do.
    Nulls: an answer with a null confidence or cluster does not vote; where none votes, `answer` and `share` are null.
    Source: DeepConf, Fu et al. 2025 (arXiv:2508.15260), offline thinking; keep 0.1 and 0.9 there.

    Args:
        scores: one row per answer.
        confidence: the confidence of an answer.
        clusters: which answers are the same, as in `sample_scores`.
        keep: the share of a prompt's answers to keep, the surest ones.
        by: the columns that identify a prompt.

    Raises:
        ValueError: `keep` is not above 0 and at most 1; when collected, a confidence is negative or NaN.

    Two unsure votes for Lyon, 3 + 4, against one of 9 for Paris; with half of the answers kept, 4 and 9 are left:

    >>> rows = {"run": "r", "prompt_id": "FR", "sample_index": [0, 1, 2], "choice_index": 0}
    >>> rows |= {"text": ["Lyon", "Lyon", "Paris"], "mean_token_confidence": [3.0, 4.0, 9.0]}
    >>> confidence_vote(pl.LazyFrame(rows)).select("answer", "share", "votes").collect().rows()
    [('paris', 0.5625, 3)]
    >>> confidence_vote(pl.LazyFrame(rows), keep=0.5).select("answer", "votes", "filtered").collect().rows()
    [('paris', 2, 1)]
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep {keep} is not a share of the answers above 0 and at most 1: 0.1 is the surest tenth")
    by = group_columns(by)
    weight = as_column(confidence).map_batches(_checked_weights, return_dtype=pl.Float64, is_elementwise=True)
    answers = _with_clusters(scores.lazy(), clusters, by).with_columns(
        _weight=pl.when(pl.col("_cluster").is_not_null()).then(weight)
    )
    threshold = pl.col("_weight").quantile(1 - keep, "linear").over(by)
    answers = answers.with_columns(_votes=pl.col("_weight") >= threshold)
    counted = answers.group_by(by).agg(
        votes=pl.col("_votes").sum(),
        filtered=(~pl.col("_votes")).sum(),
        without_vote=pl.col("_weight").null_count(),
    )
    in_order = pl.col("_weight").sort_by(_asked_order())
    clusters_of_votes = (
        answers.filter(pl.col("_votes"))
        .group_by(*by, "_cluster")
        .agg(_sum=in_order.sum(), _first_asked=_asked_order().min())
    )
    ranked = pl.col("_cluster").sort_by("_sum", "_first_asked", descending=[True, False])
    total = pl.col("_sum").sum()
    winners = clusters_of_votes.group_by(by).agg(
        answer=ranked.first(), share=pl.when(total > 0).then(pl.col("_sum").max() / total)
    )
    table = counted.join(winners, on=by, how="left", nulls_equal=True)
    return table.select(*by, "answer", "share", "votes", "filtered", "without_vote")


def _checked_weights(values: pl.Series) -> pl.Series:
    """The values as Float64.

    Raises:
        ValueError: a value is negative or NaN; the message names the first.
    """
    weights = values.cast(pl.Float64)
    bad = weights.is_nan() | (weights < 0)
    if bad.any():
        raise ValueError(
            f"{values.name}: {weights.filter(bad)[0]} is not the weight of a vote: 0 or more; take exp() of a logprob"
        )
    return weights


def _with_clusters(scores: pl.LazyFrame, clusters: Clusters | None, by: list[str]) -> pl.LazyFrame:
    """The answers with their cluster, `_cluster`."""
    if clusters is None:
        return scores.with_columns(_cluster=normalised_text())
    if isinstance(clusters, str | pl.Expr):
        return scores.with_columns(_cluster=as_column(clusters))
    return _clusters_by_function(scores, clusters, by)


def _clusters_by_function(
    scores: pl.LazyFrame, cluster_texts: Callable[[list[str]], Sequence[Hashable]], by: list[str]
) -> pl.LazyFrame:
    """The answers with `_cluster` from a function, called once per prompt with the texts in the order asked."""
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
    """One row per prompt: majority, agreement, entropies, and the answers counted, `_scored` and `_voting`."""
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
        pl.when(pl.col("_scored_count").sum() > 0)
        .then(0.0 - (pl.col("_joint") * pl.col("_scored_count")).sum() / pl.col("_scored_count").sum())
        .alias("semantic_entropy_monte_carlo"),
        _entropy_of_logs("_mean").alias("semantic_entropy_normalised"),
        _entropy_of_logs(pl.col("_count").cast(pl.Float64).log()).alias("semantic_entropy_discrete"),
        pl.col("_scored_count").sum().alias("_scored"),
        pl.col("_count").sum().alias("_voting"),
    )


def _asked_order() -> pl.Expr:
    """A number that orders the answers to a prompt as they were asked."""
    return pl.col("sample_index").cast(pl.Int64) * CHOICES_PER_SAMPLE + pl.col("choice_index").cast(pl.Int64)


def _log_sum_exp(column: str) -> pl.Expr:
    """The ln of the sum of the probabilities, from their logarithms; null without a value."""
    values = pl.col(column)
    return (values.max() + (values - values.max()).exp().sum().log()).alias(column)


def _entropy_of_logs(column: Column) -> pl.Expr:
    """-sum P ln P over the shares P, from the ln of each mass up to a constant; null without a value."""
    values = as_column(column)
    # ln P(c) = v - ln sum exp v. The largest v is subtracted, or all exponentials could underflow.
    shifted = values - values.max()
    total = shifted.exp().sum()
    entropy = total.log() - (shifted.exp() * shifted).sum() / total
    return pl.when(values.count() > 0).then(entropy.clip(lower_bound=0.0))


def _negentropy(entropy: pl.Expr, samples: pl.Expr) -> pl.Expr:
    """1 - entropy / ln samples, null below two samples."""
    return pl.when(samples > 1).then((1 - entropy / samples.cast(pl.Float64).log()).clip(0.0, 1.0))
