"""Metrics over stored logprobs: polars expressions for any group_by, over or filter. See docs/metrics.md."""

from __future__ import annotations

from logprob_store.metrics.candidates import candidate_scores, choices
from logprob_store.metrics.chosen import chosen_rank, greedy, with_chosen
from logprob_store.metrics.columns import POSITION, generated
from logprob_store.metrics.corpus import corpus_perplexity
from logprob_store.metrics.fields import field_confidence
from logprob_store.metrics.scores import scores
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
    "bits_per_byte",
    "byte_perplexity",
    "candidate_scores",
    "choices",
    "chosen_rank",
    "confidence",
    "corpus_perplexity",
    "entropy",
    "entropy_bounds",
    "entropy_lower",
    "entropy_upper",
    "field_confidence",
    "generated",
    "greedy",
    "group_confidence",
    "joint_probability",
    "logprob_margin",
    "logprob_sum",
    "longest_low_confidence_span",
    "low_confidence_share",
    "margin",
    "max_surprisal",
    "mean_logprob",
    "mean_surprisal",
    "min_k_probability",
    "min_probability",
    "missing_mass",
    "negentropy",
    "perplexity",
    "scored_tokens",
    "scores",
    "sliding_confidence",
    "text_scores",
    "token_confidence",
    "unscored_tokens",
    "varentropy",
    "with_chosen",
    "word_perplexity",
    "written_order",
    "zlib_ratio",
]
