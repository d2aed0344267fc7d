"""Two nights of a job of sixty prompts, in which everything is known: tokens, logprobs, truth, what changed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from browser.stores import run_recorded
from builders import chat_body, chat_token, write_job, write_prompts

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.request import Request

PROMPTS = 60
CITIES = ("Paris", "Rome", "Lima")


def make_nights_store(folder: Path) -> Path:
    """Make the store in a folder, and return its path. Its runs are `monday` and `tuesday`.

    The answer to prompt n is `It is CITY.` in three tokens: " CITY" has the probability (n + 1) / 61, and the others
    0.9. The column `truth` has the right answers: each fifth is wrong. On Tuesday each tenth answer is another one,
    which is less sure.
    """
    numbers = range(PROMPTS)
    columns = {
        "id": [f"p{n:02}" for n in numbers],
        "text": [f"Which city is number {n}?" for n in numbers],
        "truth": [f"It is {CITIES[n % 3] if n % 5 else 'Oslo'}." for n in numbers],
    }
    for night in ("monday", "tuesday"):
        (folder / night).mkdir(parents=True)
        write_prompts(folder / night, columns)
        job = write_job(
            folder / night,
            name="nightly",
            prompts={"id": "id", "keep": ["truth"]},
            model={"name": "m-1", "provider": "p", "params": {"max_tokens": 9}},
            transport={"kind": "replay", "fixtures": "recorded.jsonl"},
            store={"path": "../store"},
        )
        run_recorded(job, night, _tuesday if night == "tuesday" else _monday)
    return folder / "store"


def _monday(request: Request) -> tuple[int, Any]:
    n = int(request.prompt_id.removeprefix("p"))
    return 200, _answer(CITIES[n % 3], (n + 1) / (PROMPTS + 1))


def _tuesday(request: Request) -> tuple[int, Any]:
    n = int(request.prompt_id.removeprefix("p"))
    if n % 10:
        return _monday(request)
    return 200, _answer(CITIES[(n + 1) % 3], (n + 1) / (PROMPTS + 1) / 2)


def _answer(city: str, probability: float) -> dict[str, Any]:
    sure = math.log(0.9)
    listed = {f" {city}": math.log(probability), " Oslo": math.log((1 - probability) / 2), " Bern": -9.0}
    tokens = [
        chat_token("It is", sure, {"It is": sure, "That is": -3.0}),
        chat_token(f" {city}", math.log(probability), listed),
        chat_token(".", sure, {".": sure, "!": -3.0}),
    ]
    return chat_body(tokens, usage={"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15})
