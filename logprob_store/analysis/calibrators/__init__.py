"""Calibrators: from a confidence to the chance of being right; fitted once, saved as JSON, applied as an expression."""

from logprob_store.calibrators.applying import calibrated_scores, differences
from logprob_store.calibrators.calibrator import Calibrator, FittedOn, FittedRun
from logprob_store.calibrators.fitting import calibrate
from logprob_store.calibrators.saved import calibrator_names, load_calibrator, save_calibrator

__all__ = [
    "Calibrator",
    "FittedOn",
    "FittedRun",
    "calibrate",
    "calibrated_scores",
    "calibrator_names",
    "differences",
    "load_calibrator",
    "save_calibrator",
]
