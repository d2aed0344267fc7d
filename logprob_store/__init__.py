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
    from logprob_store.calibrators import (
        Calibrator as Calibrator,
    )
    from logprob_store.calibrators import (
        calibrate as calibrate,
    )
    from logprob_store.calibrators import (
        calibrated_scores as calibrated_scores,
    )
    from logprob_store.calibrators import (
        load_calibrator as load_calibrator,
    )
    from logprob_store.calibrators import (
        save_calibrator as save_calibrator,
    )
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
        Comparison as Comparison,
    )
    from logprob_store.metrics import (
        ComparisonSummary as ComparisonSummary,
    )
    from logprob_store.metrics import (
        Conformal as Conformal,
    )
    from logprob_store.metrics import (
        Verdict as Verdict,
    )
    from logprob_store.metrics import (
        accuracy as accuracy,
    )
    from logprob_store.metrics import (
        accuracy_by_threshold as accuracy_by_threshold,
    )
    from logprob_store.metrics import (
        ace as ace,
    )
    from logprob_store.metrics import (
        augrc as augrc,
    )
    from logprob_store.metrics import (
        auprc as auprc,
    )
    from logprob_store.metrics import (
        aurc as aurc,
    )
    from logprob_store.metrics import (
        auroc as auroc,
    )
    from logprob_store.metrics import (
        bits_per_byte as bits_per_byte,
    )
    from logprob_store.metrics import (
        bootstrap as bootstrap,
    )
    from logprob_store.metrics import (
        bootstrap_mean as bootstrap_mean,
    )
    from logprob_store.metrics import (
        brier as brier,
    )
    from logprob_store.metrics import (
        brier_labels as brier_labels,
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
        compare as compare,
    )
    from logprob_store.metrics import (
        confidence as confidence,
    )
    from logprob_store.metrics import (
        conformal_threshold as conformal_threshold,
    )
    from logprob_store.metrics import (
        corpus_perplexity as corpus_perplexity,
    )
    from logprob_store.metrics import (
        coverage_at_risk as coverage_at_risk,
    )
    from logprob_store.metrics import (
        ece as ece,
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
        excess_aurc as excess_aurc,
    )
    from logprob_store.metrics import (
        expected_score as expected_score,
    )
    from logprob_store.metrics import (
        expected_score_bounds as expected_score_bounds,
    )
    from logprob_store.metrics import (
        field_confidence as field_confidence,
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
        guaranteed_threshold as guaranteed_threshold,
    )
    from logprob_store.metrics import (
        healing_bounds as healing_bounds,
    )
    from logprob_store.metrics import (
        joint_probability as joint_probability,
    )
    from logprob_store.metrics import (
        js_divergence as js_divergence,
    )
    from logprob_store.metrics import (
        judged as judged,
    )
    from logprob_store.metrics import (
        kl_divergence as kl_divergence,
    )
    from logprob_store.metrics import (
        label_choices as label_choices,
    )
    from logprob_store.metrics import (
        label_coverage as label_coverage,
    )
    from logprob_store.metrics import (
        label_mass as label_mass,
    )
    from logprob_store.metrics import (
        label_probabilities as label_probabilities,
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
        mc_entropy as mc_entropy,
    )
    from logprob_store.metrics import (
        mce as mce,
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
        nll as nll,
    )
    from logprob_store.metrics import (
        normalised_text as normalised_text,
    )
    from logprob_store.metrics import (
        p_true as p_true,
    )
    from logprob_store.metrics import (
        perplexity as perplexity,
    )
    from logprob_store.metrics import (
        reliability_table as reliability_table,
    )
    from logprob_store.metrics import (
        risk_coverage_curve as risk_coverage_curve,
    )
    from logprob_store.metrics import (
        route as route,
    )
    from logprob_store.metrics import (
        sample_scores as sample_scores,
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
        span_surprisal as span_surprisal,
    )
    from logprob_store.metrics import (
        text as text,
    )
    from logprob_store.metrics import (
        text_scores as text_scores,
    )
    from logprob_store.metrics import (
        threshold_at_risk as threshold_at_risk,
    )
    from logprob_store.metrics import (
        token_confidence as token_confidence,
    )
    from logprob_store.metrics import (
        unjudged as unjudged,
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
    from logprob_store.telemetry import (
        opentelemetry as opentelemetry,
    )
    from logprob_store.testing import (
        replay_client as replay_client,
    )

# Where each name lives; kept in step with __all__ by a test.
_HOMES = {
    "Calibrator": "calibrators",
    "Comparison": "metrics",
    "ComparisonSummary": "metrics",
    "Completion": "one_call",
    "Conformal": "metrics",
    "Job": "job",
    "KEYS": "schema",
    "LogprobStoreError": "errors",
    "POSITION": "metrics",
    "RunSummary": "run",
    "SCHEMA_VERSION": "schema",
    "Store": "store.reading",
    "Verdict": "metrics",
    "accuracy": "metrics",
    "accuracy_by_threshold": "metrics",
    "ace": "metrics",
    "augrc": "metrics",
    "auprc": "metrics",
    "aurc": "metrics",
    "auroc": "metrics",
    "bits_per_byte": "metrics",
    "bootstrap": "metrics",
    "bootstrap_mean": "metrics",
    "brier": "metrics",
    "brier_labels": "metrics",
    "byte_perplexity": "metrics",
    "calibrate": "calibrators",
    "calibrated_scores": "calibrators",
    "candidate_scores": "metrics",
    "choices": "metrics",
    "chosen_rank": "metrics",
    "compare": "metrics",
    "complete": "one_call",
    "confidence": "metrics",
    "conformal_threshold": "metrics",
    "corpus_perplexity": "metrics",
    "coverage_at_risk": "metrics",
    "ece": "metrics",
    "entropy": "metrics",
    "entropy_bounds": "metrics",
    "entropy_lower": "metrics",
    "entropy_upper": "metrics",
    "excess_aurc": "metrics",
    "expected_score": "metrics",
    "expected_score_bounds": "metrics",
    "field_confidence": "metrics",
    "generated": "metrics",
    "greedy": "metrics",
    "group_confidence": "metrics",
    "guaranteed_threshold": "metrics",
    "healing_bounds": "metrics",
    "import_responses": "importing",
    "joint_probability": "metrics",
    "js_divergence": "metrics",
    "judged": "metrics",
    "kl_divergence": "metrics",
    "label_choices": "metrics",
    "label_coverage": "metrics",
    "label_mass": "metrics",
    "label_probabilities": "metrics",
    "load_calibrator": "calibrators",
    "load_job": "job",
    "logprob_margin": "metrics",
    "logprob_sum": "metrics",
    "longest_low_confidence_span": "metrics",
    "low_confidence_share": "metrics",
    "margin": "metrics",
    "max_surprisal": "metrics",
    "mc_entropy": "metrics",
    "mce": "metrics",
    "mean_logprob": "metrics",
    "mean_surprisal": "metrics",
    "min_k_probability": "metrics",
    "min_probability": "metrics",
    "missing_mass": "metrics",
    "negentropy": "metrics",
    "nll": "metrics",
    "normalised_text": "metrics",
    "open_store": "store.reading",
    "opentelemetry": "telemetry",
    "p_true": "metrics",
    "perplexity": "metrics",
    "reliability_table": "metrics",
    "replay_client": "testing",
    "risk_coverage_curve": "metrics",
    "route": "metrics",
    "run_job": "run",
    "run_job_async": "run",
    "sample_scores": "metrics",
    "save_calibrator": "calibrators",
    "scored_tokens": "metrics",
    "scores": "metrics",
    "sliding_confidence": "metrics",
    "span_surprisal": "metrics",
    "text": "metrics",
    "text_scores": "metrics",
    "threshold_at_risk": "metrics",
    "token_confidence": "metrics",
    "unjudged": "metrics",
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
    "Calibrator",
    "Comparison",
    "ComparisonSummary",
    "Completion",
    "Conformal",
    "Job",
    "LogprobStoreError",
    "RunSummary",
    "Store",
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
    "calibrate",
    "calibrated_scores",
    "candidate_scores",
    "choices",
    "chosen_rank",
    "compare",
    "complete",
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
    "import_responses",
    "joint_probability",
    "js_divergence",
    "judged",
    "kl_divergence",
    "label_choices",
    "label_coverage",
    "label_mass",
    "label_probabilities",
    "load_calibrator",
    "load_job",
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
    "open_store",
    "opentelemetry",
    "p_true",
    "perplexity",
    "reliability_table",
    "replay_client",
    "risk_coverage_curve",
    "route",
    "run_job",
    "run_job_async",
    "sample_scores",
    "save_calibrator",
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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
