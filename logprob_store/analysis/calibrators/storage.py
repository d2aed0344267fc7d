"""Calibrator files beside the store, `STORE/calibration/<name>.json`: numbers and their provenance, never code."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec

from logprob_store.analysis.calibrators.calibrator import CALIBRATOR_VERSION, Calibrator
from logprob_store.errors import DiskError, InputError, StoreError
from logprob_store.store.durable_files import make_folder, replace_file

_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_PARAMETERS: Final = {
    "isotonic": {"x", "y"},
    "platt": {"slope", "intercept", "clip"},
    "temperature": {"temperature", "clip"},
}


def save_calibrator(calibrator: Calibrator, store: str | Path, name: str) -> Path:
    """Write a calibrator beside a store, replacing one of the same name.

    Returns:
        The path of the file.

    Raises:
        InputError: the name has other characters than letters, digits, '.', '_' and '-', or begins with '.'.
        DiskError: the file cannot be written.

    What is loaded equals what was saved:

    >>> from tempfile import TemporaryDirectory
    >>> from logprob_store.analysis.calibrators.calibrator import FittedOn
    >>> rows = FittedOn(20, 10, 0, "confidence", "correct", [], "", None, [], None, "")
    >>> calibrator = Calibrator("temperature", {"temperature": 2.0, "clip": 1e-6}, {}, {}, 5, 0, rows)
    >>> with TemporaryDirectory() as store:
    ...     path = save_calibrator(calibrator, store, "nightly")
    ...     path.name, load_calibrator(store, "nightly") == calibrator
    ('nightly.json', True)
    """
    path = _calibrator_path(store, name)
    try:
        make_folder(path.parent)
        replace_file(path, msgspec.json.format(msgspec.json.encode(calibrator), indent=1) + b"\n")
    except OSError as error:
        raise DiskError("the calibrator", path, error) from error
    return path


def load_calibrator(store: str | Path, name: str) -> Calibrator:
    """Read a calibrator that was saved beside a store.

    Raises:
        InputError: there is none of that name; the message lists those that exist.
        StoreError: the file is damaged, or has another version.
    """
    path = _calibrator_path(store, name)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        listed = ", ".join(calibrator_names(store)) or "none yet; `logprobs calibrate STORE --save NAME` makes one"
        raise InputError(f"no calibrator {name!r} in {path.parent}; there are: {listed}") from None
    try:
        version = msgspec.json.decode(raw, type=_Versioned).calibrator_version
        if version != CALIBRATOR_VERSION:
            raise StoreError(
                f"{path} has calibrator version {version}, this logprob-store reads {CALIBRATOR_VERSION}: fit it again"
            )
        calibrator = msgspec.json.decode(raw, type=Calibrator)
        _check_parameters(calibrator)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise StoreError(
            f"{path} is damaged: {error}. Fit it again with `logprobs calibrate --save {name}`."
        ) from error
    return calibrator


def calibrator_names(store: str | Path) -> list[str]:
    """The names of the calibrators beside a store."""
    return sorted(path.stem for path in (Path(store) / "calibration").glob("*.json") if _NAME.fullmatch(path.stem))


def _calibrator_path(store: str | Path, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise InputError(f"calibrator name {name!r}: use letters, digits, '.', '_' and '-', not beginning with '.'")
    return Path(store) / "calibration" / f"{name}.json"


def _check_parameters(calibrator: Calibrator) -> None:
    """Check that the parameters are those of the method.

    Raises:
        ValueError: they are not.
    """
    numbers = calibrator.parameters
    if set(numbers) != _PARAMETERS[calibrator.method]:
        raise ValueError(f"{calibrator.method} has parameters {', '.join(numbers)}")
    flat = [number for value in numbers.values() for number in (value if isinstance(value, list) else [value])]
    if not all(math.isfinite(number) for number in flat):
        raise ValueError("a parameter is not finite")
    x, y = numbers.get("x"), numbers.get("y")
    lists = [name for name, value in numbers.items() if isinstance(value, list)]
    if lists != [name for name in numbers if name in {"x", "y"}]:
        raise ValueError("a parameter is a list where one number was expected, or a number for a list")
    if isinstance(x, list) and isinstance(y, list):
        rising = all(a < b for a, b in pairwise(x)) and all(a <= b for a, b in pairwise(y))
        if not x or len(x) != len(y) or not rising or not all(0 <= number <= 1 for number in y):
            raise ValueError("the knots do not rise from 0 to 1")


class _Versioned(msgspec.Struct):
    calibrator_version: Any = None
