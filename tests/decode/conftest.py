"""The file of this folder that pytest does not collect."""

from __future__ import annotations

collect_ignore = ["fuzz_atheris.py"]  # a script, whose import needs atheris
