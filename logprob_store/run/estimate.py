"""What a job would take: `Estimate`, which `--dry-run` prints.

Holds its fields and its sentences. Leaves out where the numbers come from (`dry_run`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Estimate:
    """How many calls a run would meet where, and what those to ask would take.

    `settled` are the calls with an answer or a lasting failure, `cached` those that cache or fixtures answer, `shared`
    those that get the answer of an equal request, `bad` those that cannot be asked; `to_ask` is what would be paid for,
    if nothing has to be tried again.

    `prompt_tokens` is a quarter of the bytes; `output_tokens` and `cost_usd` are the least and the most, the most as
    ceilings reserve it, None where nothing says it. `seconds` is what the job's own limits per minute allow, None
    without such limits. `spent_usd` and its like are the run's so far, and `fits` says whether the rest stays under the
    job's ceilings: `yes`, `maybe`, `no`, None without ceilings. `files` counts the files of the prompts.
    """

    prompts: int
    calls: int
    settled: int
    cached: int
    bad: int
    to_ask: int
    shared: int = 0
    prompt_tokens: int = 0
    output_tokens: tuple[int, int | None] = (0, 0)
    cost_usd: tuple[float, float | None] | None = None
    seconds: float | None = None
    spent_requests: int = 0
    spent_tokens: int = 0
    spent_usd: float | None = None
    fits: str | None = None
    files: int = 1

    @property
    def sentence(self) -> str:
        """All of it for a person, in a few lines."""
        places = f" in {self.files} files" if self.files > 1 else ""
        first = (
            f"{self.prompts} prompts{places}, {self.calls} calls: {self.settled} already in the run, "
            f"{self.cached} in the cache or fixtures, {self.bad} cannot be asked, {self.to_ask} to ask"
        )
        if self.shared:
            first += f", {self.shared} equal to one of these"
        return "\n".join([first, *self._amounts()] if self.to_ask else [first])

    def _amounts(self) -> list[str]:
        least, most = self.output_tokens
        most_said = "an unknown number of" if most is None else f"{most:,}"
        lines = [f"about {self.prompt_tokens:,} tokens of prompts, {least:,} to {most_said} tokens of answers"]
        if self.cost_usd is not None:
            least_usd, most_usd = self.cost_usd
            upper = "nobody knows: set a maximum of output tokens" if most_usd is None else f"${most_usd:,.4f} at most"
            lines.append(f"cost: ${least_usd:,.4f} to {upper}")
        if self.seconds is not None:
            lines.append(f"time at the job's limits per minute: {_duration(self.seconds)}")
        if self.fits is not None:
            spent = "" if self.spent_usd is None else f", ${self.spent_usd:,.4f}"
            lines.append(
                f"under the job's ceilings: {_FITS[self.fits]} "
                f"(spent so far: {self.spent_requests:,} calls, {self.spent_tokens:,} tokens{spent})"
            )
        return lines


_FITS: Final = {
    "yes": "yes, even at its most",
    "maybe": "perhaps; if not, the run stops before it passes one and can be continued",
    "no": "no; the run will stop before it passes one and can be continued",
}


def _duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> _duration(42.4), _duration(150), _duration(7300)
    ('42 s', '2.5 min', '2.0 h')
    """
    if seconds < 120:  # noqa: PLR2004  two minutes
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
