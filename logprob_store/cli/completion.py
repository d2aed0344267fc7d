"""What a shell completes beyond commands, options and files: the names of a store's runs.

Only folder names are read, so that a key press is answered at once; `logprobs --install-completion` sets the shell up.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import typer  # noqa: TC002  typer reads annotations at run time


def complete_run(context: typer.Context, incomplete: str) -> list[str]:
    """The runs of the store that a command line names, itself or in its job file; none where there is no such store."""
    from logprob_store.errors import InputError
    from logprob_store.job import load_job
    from logprob_store.store.run_folders import run_names

    # Behind an option that still wants its value, what stands before it is not assigned yet.
    named = [context.params.get("store"), context.params.get("job_file"), *context.args]
    place = next((Path(name) for name in named if name is not None), None)
    with contextlib.suppress(InputError, OSError):
        if place is not None:
            store = load_job(place).store_folder if place.is_file() else place
            return [name for name in run_names(store) if name.startswith(incomplete)]
    return []
