"""Metrics over stored logprobs: polars expressions for any group_by, over or filter. See docs/metrics.md."""

from __future__ import annotations

from logprob_store.metrics.bootstrap import bootstrap, bootstrap_mean
from logprob_store.metrics.boundaries import healing_bounds
from logprob_store.metrics.calibration import ace, brier, brier_labels, ece, mce, nll, reliability_table
from logprob_store.metrics.candidates import candidate_scores, choices
from logprob_store.metrics.chosen import chosen_rank, greedy, with_chosen
from logprob_store.metrics.columns import POSITION, generated
from logprob_store.metrics.comparison import Comparison, ComparisonSummary, Verdict, compare
from logprob_store.metrics.conformal import Conformal, conformal_threshold
from logprob_store.metrics.corpus import corpus_perplexity
from logprob_store.metrics.divergence import js_divergence, kl_divergence
from logprob_store.metrics.fields import field_confidence
from logprob_store.metrics.guarantee import guaranteed_threshold
from logprob_store.metrics.judged import accuracy, judged, unjudged
from logprob_store.metrics.label_scores import (
    expected_score,
    expected_score_bounds,
    label_choices,
    label_coverage,
    label_mass,
    p_true,
    route,
)
from logprob_store.metrics.labels import label_probabilities
from logprob_store.metrics.ranking import augrc, auprc, aurc, auroc, excess_aurc
from logprob_store.metrics.rebuilt_text import text
from logprob_store.metrics.samples import mc_entropy, normalised_text, sample_scores
from logprob_store.metrics.scores import scores
from logprob_store.metrics.selective import (
    accuracy_by_threshold,
    coverage_at_risk,
    risk_coverage_curve,
    threshold_at_risk,
)
from logprob_store.metrics.sequence import (
    confidence,
    joint_probability,
    logprob_sum,
    low_confidence_share,
    max_surprisal,
    mean_logprob,
    mean_surprisal,
    min_probability,
    perplexity,
    scored_tokens,
    unscored_tokens,
)
from logprob_store.metrics.spans import span_surprisal
from logprob_store.metrics.texts import bits_per_byte, byte_perplexity, text_scores, word_perplexity
from logprob_store.metrics.topk import logprob_margin, margin, missing_mass, token_confidence
from logprob_store.metrics.topk_bounds import entropy_bounds, entropy_lower, entropy_upper
from logprob_store.metrics.topk_entropy import entropy, negentropy, varentropy
from logprob_store.metrics.training_data import min_k_probability, zlib_ratio
from logprob_store.metrics.windows import (
    group_confidence,
    longest_low_confidence_span,
    sliding_confidence,
    written_order,
)

__all__ = [
    "POSITION",
    "Comparison",
    "ComparisonSummary",
    "Conformal",
    "Verdict",
    "accuracy",
    "accuracy_by_threshold",
    "ace",
    "augrc",
    "auprc",
    "aurc",
    "auroc",
    "bits_per_byte",
    "bootstrap",
    "bootstrap_mean",
    "brier",
    "brier_labels",
    "byte_perplexity",
    "candidate_scores",
    "choices",
    "chosen_rank",
    "compare",
    "confidence",
    "conformal_threshold",
    "corpus_perplexity",
    "coverage_at_risk",
    "ece",
    "entropy",
    "entropy_bounds",
    "entropy_lower",
    "entropy_upper",
    "excess_aurc",
    "expected_score",
    "expected_score_bounds",
    "field_confidence",
    "generated",
    "greedy",
    "group_confidence",
    "guaranteed_threshold",
    "healing_bounds",
    "joint_probability",
    "js_divergence",
    "judged",
    "kl_divergence",
    "label_choices",
    "label_coverage",
    "label_mass",
    "label_probabilities",
    "logprob_margin",
    "logprob_sum",
    "longest_low_confidence_span",
    "low_confidence_share",
    "margin",
    "max_surprisal",
    "mc_entropy",
    "mce",
    "mean_logprob",
    "mean_surprisal",
    "min_k_probability",
    "min_probability",
    "missing_mass",
    "negentropy",
    "nll",
    "normalised_text",
    "p_true",
    "perplexity",
    "reliability_table",
    "risk_coverage_curve",
    "route",
    "sample_scores",
    "scored_tokens",
    "scores",
    "sliding_confidence",
    "span_surprisal",
    "text",
    "text_scores",
    "threshold_at_risk",
    "token_confidence",
    "unjudged",
    "unscored_tokens",
    "varentropy",
    "with_chosen",
    "word_perplexity",
    "written_order",
    "zlib_ratio",
]
