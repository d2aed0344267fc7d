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
    from logprob_store.complete import Completion as Completion, complete as complete
    from logprob_store.errors import LogprobStoreError as LogprobStoreError
    from logprob_store.job import Job as Job, load_job as load_job
    from logprob_store.metrics import *  # noqa: F403  their names are in _EXPORTS below
    from logprob_store.run import RunSummary as RunSummary, run_job as run_job
    from logprob_store.schema import KEYS as KEYS, SCHEMA_VERSION as SCHEMA_VERSION
    from logprob_store.store.reading import Store as Store, open_store as open_store
    from logprob_store.testing import replay_client as replay_client

_EXPORTS = {
    "Completion": "complete",
    "Job": "job",
    "KEYS": "schema",
    "LogprobStoreError": "errors",
    "RunSummary": "run",
    "SCHEMA_VERSION": "schema",
    "Store": "store.reading",
    "complete": "complete",
    "load_job": "job",
    "open_store": "store.reading",
    "replay_client": "testing",
    "run_job": "run",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
