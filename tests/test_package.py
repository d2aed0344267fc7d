"""The package as a whole: its public surface, and habits that no single module's test can see."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import logprob_store as ls

PACKAGE = Path(ls.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

EXPECTED = [
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


def test_public_surface() -> None:
    """The public names are sorted, all there, and change on purpose only."""
    assert list(ls.__all__) == EXPECTED
    assert all(getattr(ls, name) is not None for name in ls.__all__)
    assert set(ls.__all__) == set(ls._HOMES)
    assert dir(ls) == sorted(ls.__all__)


def test_names_stay_what_they_are() -> None:
    """A name does not turn into the module of the same name after its first use."""
    for name in ls.__all__:
        assert getattr(ls, name) is getattr(ls, name)


def test_unknown_name_is_an_attribute_error() -> None:
    """A name that is not exported is an AttributeError."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ls.nothing  # noqa: B018  the access is the test


def test_import_loads_nothing_heavy() -> None:
    """Importing the package and its command line leaves polars, pyarrow and the SDK alone."""
    heavy = "polars", "pyarrow", "openai", "httpx2", "pydantic", "diskcache", "rich.console"
    code = f"import logprob_store, logprob_store.cli, sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_habits(path: Path) -> None:
    """No broad except, no reading of the environment or printing outside the command line, a docstring everywhere."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    broad = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "Exception"))
    ]
    outside = path.relative_to(PACKAGE).parts[0] != "cli"
    environment = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"} and outside
    ]
    prints = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print" and outside
    ]

    assert (broad, environment, prints) == ([], [], [])
    assert ast.get_docstring(tree)


def test_only_the_package_is_installed() -> None:
    """No top-level `jobs` or `tests` module comes with the package."""
    code = "import importlib.util as u; print([m for m in ('jobs', 'fixtures', 'benchmarks') if u.find_spec(m)])"
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
