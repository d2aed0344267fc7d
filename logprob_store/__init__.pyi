# The public names, each written once, here, and grouped by what they are for: `__init__.py` reads these lines and
# loads a name at its first use. One import a line; the line's module is where the name is defined.

# Ask a model
from .job import Job as Job
from .job import load_job as load_job
from .run.api import RunSummary as RunSummary
from .run.api import run_job as run_job
from .run.api import run_job_async as run_job_async
from .one_prompt import Completion as Completion
from .one_prompt import complete as complete
from .run.telemetry import opentelemetry as opentelemetry

# Keep responses that you already have
from .importing.api import import_responses as import_responses

# Read a store
from .analysis.opened_store import Store as Store
from .analysis.opened_store import open_store as open_store
from .analysis.plots import StorePlots as StorePlots
from .schema import KEYS as KEYS
from .schema import SCHEMA_VERSION as SCHEMA_VERSION
from .metrics.arguments import POSITION as POSITION
from .metrics.arguments import generated as generated

# Scores of completions, samples and whole texts
from .metrics.engine.score_table import scores as scores
from .metrics.samples import confidence_vote as confidence_vote
from .metrics.samples import mc_entropy as mc_entropy
from .metrics.samples import normalised_text as normalised_text
from .metrics.samples import sample_scores as sample_scores
from .metrics.spans.token_offsets import text as text

# Metrics of the chosen tokens (`tokens`)
from .metrics.tokens.sequence import confidence as confidence
from .metrics.tokens.sequence import joint_probability as joint_probability
from .metrics.tokens.sequence import logprob_sum as logprob_sum
from .metrics.tokens.sequence import low_confidence_share as low_confidence_share
from .metrics.tokens.sequence import max_surprisal as max_surprisal
from .metrics.tokens.sequence import mean_logprob as mean_logprob
from .metrics.tokens.sequence import mean_surprisal as mean_surprisal
from .metrics.tokens.sequence import min_probability as min_probability
from .metrics.tokens.sequence import perplexity as perplexity
from .metrics.tokens.sequence import scored_tokens as scored_tokens
from .metrics.tokens.sequence import unscored_tokens as unscored_tokens
from .metrics.tokens.windows import group_confidence as group_confidence
from .metrics.tokens.windows import longest_low_confidence_span as longest_low_confidence_span
from .metrics.tokens.windows import sliding_confidence as sliding_confidence
from .metrics.tokens.windows import written_order as written_order
from .metrics.tokens.training_data import min_k_probability as min_k_probability
from .metrics.tokens.training_data import zlib_ratio as zlib_ratio

# Metrics of the alternatives (`alternatives`)
from .metrics.alternatives.topk import logprob_margin as logprob_margin
from .metrics.alternatives.topk import margin as margin
from .metrics.alternatives.topk import missing_mass as missing_mass
from .metrics.alternatives.topk import token_confidence as token_confidence
from .metrics.alternatives.entropy import entropy as entropy
from .metrics.alternatives.entropy import min_negentropy as min_negentropy
from .metrics.alternatives.entropy import negentropy as negentropy
from .metrics.alternatives.entropy import varentropy as varentropy
from .metrics.alternatives.entropy_bounds import entropy_bounds as entropy_bounds
from .metrics.alternatives.entropy_bounds import entropy_lower as entropy_lower
from .metrics.alternatives.entropy_bounds import entropy_upper as entropy_upper
from .metrics.alternatives.production_rate import entropy_contributions as entropy_contributions
from .metrics.alternatives.production_rate import epr as epr
from .metrics.alternatives.production_rate import wepr as wepr
from .metrics.alternatives.halt import halt_features as halt_features
from .metrics.alternatives.chosen import chosen_rank as chosen_rank
from .metrics.alternatives.chosen import greedy as greedy
from .metrics.alternatives.chosen import with_chosen as with_chosen
from .metrics.alternatives.healing import healing_bounds as healing_bounds
from .metrics.alternatives.divergence import js_divergence as js_divergence
from .metrics.alternatives.divergence import kl_divergence as kl_divergence

# Words, sentences, lines and JSON fields
from .metrics.spans.words import span_surprisal as span_surprisal
from .metrics.spans.fields import field_confidence as field_confidence

# Labels: how likely was each of these answers?
from .metrics.labels.probabilities import label_probabilities as label_probabilities
from .metrics.labels.decided import decision_probabilities as decision_probabilities
from .metrics.labels.decided import decided as decided
from .metrics.labels.chosen_label import expected_score as expected_score
from .metrics.labels.chosen_label import expected_score_bounds as expected_score_bounds
from .metrics.labels.chosen_label import label_choices as label_choices
from .metrics.labels.chosen_label import label_coverage as label_coverage
from .metrics.labels.chosen_label import label_mass as label_mass
from .metrics.labels.chosen_label import p_true as p_true
from .metrics.labels.chosen_label import route as route
from .metrics.labels.judges import both_orders as both_orders
from .metrics.labels.judges import preference as preference
from .metrics.labels.judges import risk_averse_score as risk_averse_score

# Text that was given: candidates, perplexity of texts
from .metrics.given.candidates import candidate_scores as candidate_scores
from .metrics.given.candidates import choices as choices
from .metrics.given.texts import bits_per_byte as bits_per_byte
from .metrics.given.texts import byte_perplexity as byte_perplexity
from .metrics.given.texts import corpus_perplexity as corpus_perplexity
from .metrics.given.texts import text_scores as text_scores
from .metrics.given.texts import word_perplexity as word_perplexity

# Against the truth: calibration, ranking, thresholds, intervals
from .metrics.truth.accuracy import accuracy as accuracy
from .metrics.truth.accuracy import judged as judged
from .metrics.truth.accuracy import unjudged as unjudged
from .metrics.truth.calibration import ace as ace
from .metrics.truth.calibration import brier as brier
from .metrics.truth.calibration import brier_labels as brier_labels
from .metrics.truth.calibration import ece as ece
from .metrics.truth.calibration import mce as mce
from .metrics.truth.calibration import nll as nll
from .metrics.truth.calibration import reliability_table as reliability_table
from .metrics.truth.ranking import augrc as augrc
from .metrics.truth.ranking import auprc as auprc
from .metrics.truth.ranking import aurc as aurc
from .metrics.truth.ranking import auroc as auroc
from .metrics.truth.ranking import excess_aurc as excess_aurc
from .metrics.truth.selective import accuracy_by_threshold as accuracy_by_threshold
from .metrics.truth.selective import coverage_at_risk as coverage_at_risk
from .metrics.truth.selective import risk_coverage_curve as risk_coverage_curve
from .metrics.truth.selective import threshold_at_risk as threshold_at_risk
from .metrics.truth.guarantee import guaranteed_threshold as guaranteed_threshold
from .metrics.truth.conformal import Conformal as Conformal
from .metrics.truth.conformal import conformal_threshold as conformal_threshold
from .metrics.truth.calibration_intervals import calibration_floor as calibration_floor
from .metrics.truth.shares import grouped_share_interval as grouped_share_interval
from .metrics.truth.shares import share_interval as share_interval
from .metrics.truth.share_differences import grouped_paired_share_interval as grouped_paired_share_interval
from .metrics.truth.share_differences import paired_share_interval as paired_share_interval
from .metrics.truth.share_differences import share_difference_interval as share_difference_interval
from .metrics.truth.bootstrap import bootstrap as bootstrap
from .metrics.truth.bootstrap import bootstrap_mean as bootstrap_mean
from .metrics.truth.sequences import confidence_sequence as confidence_sequence

# Calibrators
from .analysis.calibrators.fit import calibrate as calibrate
from .analysis.calibrators.apply import calibrated_scores as calibrated_scores
from .analysis.calibrators.storage import load_calibrator as load_calibrator
from .analysis.calibrators.storage import save_calibrator as save_calibrator
from .analysis.calibrators.calibrator import Calibrator as Calibrator

# Detectors of errors
from .analysis.error_detectors.fit import fit_error_detector as fit_error_detector
from .analysis.error_detectors.storage import load_error_detector as load_error_detector
from .analysis.error_detectors.storage import save_error_detector as save_error_detector
from .analysis.error_detectors.detector import ErrorDetector as ErrorDetector

# Two runs of the same prompts
from .metrics.two_runs.comparison import Comparison as Comparison
from .metrics.two_runs.comparison import ComparisonSummary as ComparisonSummary
from .metrics.two_runs.verdict import Verdict as Verdict
from .metrics.two_runs.comparison import compare as compare
from .metrics.two_runs.drift import logprob_drift as logprob_drift

# Test your own code offline
from .replay.client import replay_client as replay_client

# Errors
from .errors import CacheError as CacheError
from .errors import CallError as CallError
from .errors import DecodeError as DecodeError
from .errors import DiskError as DiskError
from .errors import FixtureError as FixtureError
from .errors import InputError as InputError
from .errors import JobError as JobError
from .errors import LabelsCollideError as LabelsCollideError
from .errors import LogprobStoreError as LogprobStoreError
from .errors import PromptError as PromptError
from .errors import PromptsError as PromptsError
from .errors import ReplayMissError as ReplayMissError
from .errors import RunChangedError as RunChangedError
from .errors import RunLockedError as RunLockedError
from .errors import RunNotFoundError as RunNotFoundError
from .errors import SchemaVersionError as SchemaVersionError
from .errors import StopRunError as StopRunError
from .errors import StoreError as StoreError
from .errors import StoreNotFoundError as StoreNotFoundError
from .errors import StoreWarning as StoreWarning
from .errors import TemplateError as TemplateError

# The version of the package
__version__: str
