"""Detector files beside the store, `STORE/error_detectors/<name>.json`: numbers, never code."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, Final

import msgspec

from logprob_store.analysis.error_detectors.detector import DETECTOR_VERSION, ErrorDetector
from logprob_store.errors import DiskError, InputError, StoreError
from logprob_store.store.durable_files import make_folder, replace_file

_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def save_error_detector(detector: ErrorDetector, store: str | Path, name: str) -> Path:
    """Write a detector beside a store, replacing one of the same name.

    Returns:
        The path of the file.

    Raises:
        InputError: the name has other characters than letters, digits, '.', '_' and '-', or begins with '.'.
        DiskError: the file cannot be written.
    """
    path = _path(store, name)
    try:
        make_folder(path.parent)
        replace_file(path, msgspec.json.format(msgspec.json.encode(detector), indent=1) + b"\n")
    except OSError as error:
        raise DiskError("the detector", path, error) from error
    return path


def load_error_detector(store: str | Path, name: str) -> ErrorDetector:
    """Read a detector that was saved beside a store.

    Raises:
        InputError: there is none of that name; the message lists those that exist.
        StoreError: the file is damaged, or has another version.
    """
    path = _path(store, name)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        names = sorted(other.stem for other in path.parent.glob("*.json") if _NAME.fullmatch(other.stem))
        listed = ", ".join(names) or "none yet; `ls.save_error_detector` makes one"
        raise InputError(f"no detector {name!r} in {path.parent}; there are: {listed}") from None
    try:
        version = msgspec.json.decode(raw, type=_Versioned).detector_version
        if version != DETECTOR_VERSION:
            raise StoreError(
                f"{path} has detector version {version}, this logprob-store reads {DETECTOR_VERSION}: fit it again"
            )
        detector = msgspec.json.decode(raw, type=ErrorDetector)
        _check_numbers(detector)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise StoreError(
            f"{path} is damaged: {error}. Fit it again, and save it with `ls.save_error_detector`."
        ) from error
    return detector


def _path(store: str | Path, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise InputError(f"detector name {name!r}: use letters, digits, '.', '_' and '-', not beginning with '.'")
    return Path(store) / "error_detectors" / f"{name}.json"


def _check_numbers(detector: ErrorDetector) -> None:
    numbers = [detector.intercept]
    for one in detector.features:
        numbers += [one.fill, one.mean, one.scale, one.weight]
        if one.scale <= 0:
            raise ValueError(f"the scale of {one.name} is {one.scale}")
    if not detector.features or not all(map(math.isfinite, numbers)):
        raise ValueError("it has no features, or a number that is not finite")


class _Versioned(msgspec.Struct):
    detector_version: Any = None
