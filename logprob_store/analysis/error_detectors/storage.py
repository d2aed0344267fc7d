"""Detector files beside the store, `STORE/error_detectors/<name>.json`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from logprob_store.analysis.error_detectors.detector import DETECTOR_VERSION, ErrorDetector
from logprob_store.analysis.number_files import NumberFiles

if TYPE_CHECKING:
    from pathlib import Path


def save_error_detector(detector: ErrorDetector, store: str | Path, name: str) -> Path:
    """Write a detector beside a store, replacing one of the same name.

    Returns:
        The path of the file.

    Raises:
        InputError: the name has other characters than letters, digits, '.', '_' and '-', or begins with '.'.
        DiskError: the file cannot be written.
    """
    return _FILES.save(detector, store, name)


def load_error_detector(store: str | Path, name: str) -> ErrorDetector:
    """Read a detector that was saved beside a store.

    Raises:
        InputError: there is none of that name; the message lists those that exist.
        StoreError: the file is damaged, or has another version.
    """
    return _FILES.load(store, name)


def _check_numbers(detector: ErrorDetector) -> None:
    numbers = [detector.intercept]
    for one in detector.features:
        numbers += [one.fill, one.mean, one.scale, one.weight]
        if one.scale <= 0:
            raise ValueError(f"the scale of {one.name} is {one.scale}")
    if not detector.features or not all(map(math.isfinite, numbers)):
        raise ValueError("it has no features, or a number that is not finite")


_FILES: Final = NumberFiles(
    what="detector",
    folder="error_detectors",
    kind=ErrorDetector,
    version=DETECTOR_VERSION,
    check=_check_numbers,
    made_by="`ls.save_error_detector`",
    mend="Fit it again, and save it with `ls.save_error_detector`.",
)
