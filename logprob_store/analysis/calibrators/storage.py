"""Calibrator files beside the store, `STORE/calibration/<name>.json`."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from logprob_store.analysis.calibrators.calibrator import CALIBRATOR_VERSION, Calibrator
from logprob_store.analysis.number_files import NumberFiles

if TYPE_CHECKING:
    from pathlib import Path

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
    return _FILES.save(calibrator, store, name)


def load_calibrator(store: str | Path, name: str) -> Calibrator:
    """Read a calibrator that was saved beside a store.

    Raises:
        InputError: there is none of that name; the message lists those that exist.
        StoreError: the file is damaged, or has another version.
    """
    return _FILES.load(store, name)


def calibrator_names(store: str | Path) -> list[str]:
    """The names of the calibrators beside a store."""
    return _FILES.names(store)


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


_FILES: Final = NumberFiles(
    what="calibrator",
    folder="calibration",
    kind=Calibrator,
    version=CALIBRATOR_VERSION,
    check=_check_parameters,
    made_by="`logprobs calibrate STORE --expected COLUMN --method isotonic --save NAME`",
    mend="Fit it again with `logprobs calibrate --save {name}`.",
)
