"""The list of wire formats: a module and a line in the list are all that a format needs."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter

from logprob_store.decode import formats
from logprob_store.decode.formats.base import BodyFormat, NamedShape, StreamFormat
from logprob_store.decode.formats.registry import BODIES, FORMATS


def test_every_format_is_listed() -> None:
    """A module that defines a format and is not in the list would never be used."""
    names = [module.name for module in pkgutil.iter_modules(formats.__path__, f"{formats.__name__}.")]
    modules = map(importlib.import_module, names)
    defined = {module.__name__ for module in modules if isinstance(module, BodyFormat | NamedShape | StreamFormat)}

    assert defined == {form.__name__ for form in FORMATS}  # type: ignore[union-attr]  # they are modules


def test_names_are_unique() -> None:
    """A stored `wire` column names a shape or a layout's format, so no two share a name."""
    for kind in (BODIES, [form for form in FORMATS if isinstance(form, NamedShape)]):
        counts = Counter(form.NAME for form in kind)

        assert set(counts.values()) == {1}
