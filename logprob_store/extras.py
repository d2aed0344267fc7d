"""Packages of the extra `analysis`, loaded when first used, with an error that says how to get them.

Leaves out everything else.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def needed(module: str) -> Any:
    """The module.

    Raises:
        ImportError: it is not installed; the message names the extra.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in {"sklearn", "scipy"}:
            raise
        raise ImportError(
            f"{module} is not installed, and this needs it: pip install 'logprob-store[analysis]'", name=error.name
        ) from error
