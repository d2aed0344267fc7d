"""Keep every token's log-probability and every alternative, and ask polars what the model almost said.

    import logprob_store as ls

    store = ls.open_store("out/demo")
    store.scores().sort("confidence").head(10).collect()

The public names stand in `__init__.pyi`, each once, grouped by what they are for. That file is what type checkers and
editors read, and this one reads it too: a name is loaded at its first use, so that importing the package costs almost
nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# "from .job import load_job as load_job" -> {"load_job": ".job"}; read by the loader, so that a zip file will do.
_stub: str = __spec__.loader.get_data(f"{__file__.rpartition('.')[0]}.pyi").decode()  # type: ignore[union-attr]
_MODULE_OF = {words[-1]: words[1] for line in _stub.split("\n") if (words := line.split())[:1] == ["from"]}

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605  the stub has them one by one


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("logprob-store")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
