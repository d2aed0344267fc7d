"""Processes that measure: started one at a time, each prints a line of JSON.

Holds how they are started and how medians are taken over their rounds. Leaves out what they measure.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent


def measure(script: str, *arguments: object, python: str | Path = sys.executable) -> dict[str, float]:
    """What one process has measured.

    Raises:
        RuntimeError: it failed; the message ends with what it said.
    """
    command = [str(python), str(HERE / script), *map(str, arguments)]
    # litellm would look up prices on the network while it is imported.
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def median_of(rounds: Sequence[dict[str, float]]) -> dict[str, Any]:
    """The median of each figure.

    >>> median_of([{"per_s": 1.0}, {"per_s": 5.0}, {"per_s": 2.0}])
    {'per_s': 2.0}
    """
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
