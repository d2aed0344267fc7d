"""Makes `simulation` importable: the tests are no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

if "simulation" not in sys.modules:
    spec = importlib.util.spec_from_file_location("simulation", Path(__file__).with_name("simulation.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules["simulation"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["simulation"])
