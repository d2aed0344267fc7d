"""What pytest leaves alone in this folder."""

from __future__ import annotations

collect_ignore = ["fuzz_atheris.py"]  # a script, whose import needs atheris
