"""Keep every token's log-probability and every alternative, and ask polars what the model almost said.

    import logprob_store as ls

    store = ls.open_store("out/demo")
    store.scores().sort("confidence").head(10).collect()

This module only re-exports; names are loaded when first used, so that importing it costs almost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from logprob_store.errors import (
        LogprobStoreError as LogprobStoreError,
    )
    from logprob_store.importing import (
        import_responses as import_responses,
    )
    from logprob_store.job import (
        Job as Job,
    )
    from logprob_store.job import (
        load_job as load_job,
    )
    from logprob_store.metrics import (
        POSITION as POSITION,
    )
    from logprob_store.metrics import (
        bits_per_byte as bits_per_byte,
    )
    from logprob_store.metrics import (
        byte_perplexity as byte_perplexity,
    )
    from logprob_store.metrics import (
        candidate_scores as candidate_scores,
    )
    from logprob_store.metrics import (
        choices as choices,
    )
    from logprob_store.metrics import (
        chosen_rank as chosen_rank,
    )
    from logprob_store.metrics import (
        confidence as confidence,
    )
    from logprob_store.metrics import (
        corpus_perplexity as corpus_perplexity,
    )
    from logprob_store.metrics import (
        entropy as entropy,
    )
    from logprob_store.metrics import (
        entropy_bounds as entropy_bounds,
    )
    from logprob_store.metrics import (
        entropy_lower as entropy_lower,
    )
    from logprob_store.metrics import (
        entropy_upper as entropy_upper,
    )
    from logprob_store.metrics import (
        generated as generated,
    )
    from logprob_store.metrics import (
        greedy as greedy,
    )
    from logprob_store.metrics import (
        group_confidence as group_confidence,
    )
    from logprob_store.metrics import (
        joint_probability as joint_probability,
    )
    from logprob_store.metrics import (
        logprob_margin as logprob_margin,
    )
    from logprob_store.metrics import (
        logprob_sum as logprob_sum,
    )
    from logprob_store.metrics import (
        longest_low_confidence_span as longest_low_confidence_span,
    )
    from logprob_store.metrics import (
        low_confidence_share as low_confidence_share,
    )
    from logprob_store.metrics import (
        margin as margin,
    )
    from logprob_store.metrics import (
        max_surprisal as max_surprisal,
    )
    from logprob_store.metrics import (
        mean_logprob as mean_logprob,
    )
    from logprob_store.metrics import (
        mean_surprisal as mean_surprisal,
    )
    from logprob_store.metrics import (
        min_k_probability as min_k_probability,
    )
    from logprob_store.metrics import (
        min_probability as min_probability,
    )
    from logprob_store.metrics import (
        missing_mass as missing_mass,
    )
    from logprob_store.metrics import (
        negentropy as negentropy,
    )
    from logprob_store.metrics import (
        perplexity as perplexity,
    )
    from logprob_store.metrics import (
        scored_tokens as scored_tokens,
    )
    from logprob_store.metrics import (
        scores as scores,
    )
    from logprob_store.metrics import (
        sliding_confidence as sliding_confidence,
    )
    from logprob_store.metrics import (
        text_scores as text_scores,
    )
    from logprob_store.metrics import (
        token_confidence as token_confidence,
    )
    from logprob_store.metrics import (
        unscored_tokens as unscored_tokens,
    )
    from logprob_store.metrics import (
        varentropy as varentropy,
    )
    from logprob_store.metrics import (
        with_chosen as with_chosen,
    )
    from logprob_store.metrics import (
        word_perplexity as word_perplexity,
    )
    from logprob_store.metrics import (
        written_order as written_order,
    )
    from logprob_store.metrics import (
        zlib_ratio as zlib_ratio,
    )
    from logprob_store.one_call import (
        Completion as Completion,
    )
    from logprob_store.one_call import (
        complete as complete,
    )
    from logprob_store.run import (
        RunSummary as RunSummary,
    )
    from logprob_store.run import (
        run_job as run_job,
    )
    from logprob_store.run import (
        run_job_async as run_job_async,
    )
    from logprob_store.schema import (
        KEYS as KEYS,
    )
    from logprob_store.schema import (
        SCHEMA_VERSION as SCHEMA_VERSION,
    )
    from logprob_store.store.reading import (
        Store as Store,
    )
    from logprob_store.store.reading import (
        open_store as open_store,
    )
    from logprob_store.testing import (
        replay_client as replay_client,
    )

# Where each name lives; kept in step with __all__ by a test.
_HOMES = {
    "Completion": "one_call",
    "Job": "job",
    "KEYS": "schema",
    "LogprobStoreError": "errors",
    "POSITION": "metrics",
    "RunSummary": "run",
    "SCHEMA_VERSION": "schema",
    "Store": "store.reading",
    "bits_per_byte": "metrics",
    "byte_perplexity": "metrics",
    "candidate_scores": "metrics",
    "choices": "metrics",
    "chosen_rank": "metrics",
    "complete": "one_call",
    "confidence": "metrics",
    "corpus_perplexity": "metrics",
    "entropy": "metrics",
    "entropy_bounds": "metrics",
    "entropy_lower": "metrics",
    "entropy_upper": "metrics",
    "generated": "metrics",
    "greedy": "metrics",
    "group_confidence": "metrics",
    "import_responses": "importing",
    "joint_probability": "metrics",
    "load_job": "job",
    "logprob_margin": "metrics",
    "logprob_sum": "metrics",
    "longest_low_confidence_span": "metrics",
    "low_confidence_share": "metrics",
    "margin": "metrics",
    "max_surprisal": "metrics",
    "mean_logprob": "metrics",
    "mean_surprisal": "metrics",
    "min_k_probability": "metrics",
    "min_probability": "metrics",
    "missing_mass": "metrics",
    "negentropy": "metrics",
    "open_store": "store.reading",
    "perplexity": "metrics",
    "replay_client": "testing",
    "run_job": "run",
    "run_job_async": "run",
    "scored_tokens": "metrics",
    "scores": "metrics",
    "sliding_confidence": "metrics",
    "text_scores": "metrics",
    "token_confidence": "metrics",
    "unscored_tokens": "metrics",
    "varentropy": "metrics",
    "with_chosen": "metrics",
    "word_perplexity": "metrics",
    "written_order": "metrics",
    "zlib_ratio": "metrics",
}

__all__ = [
    "KEYS",
    "POSITION",
    "SCHEMA_VERSION",
    "Completion",
    "Job",
    "LogprobStoreError",
    "RunSummary",
    "Store",
    "bits_per_byte",
    "byte_perplexity",
    "candidate_scores",
    "choices",
    "chosen_rank",
    "complete",
    "confidence",
    "corpus_perplexity",
    "entropy",
    "entropy_bounds",
    "entropy_lower",
    "entropy_upper",
    "generated",
    "greedy",
    "group_confidence",
    "import_responses",
    "joint_probability",
    "load_job",
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
    "open_store",
    "perplexity",
    "replay_client",
    "run_job",
    "run_job_async",
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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
