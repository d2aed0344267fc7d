"""What would have followed another token, as JSON: what can be asked in its place, and the answer beside the original.

The call is made by `what_if`. Nothing is written to the runs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from logprob_store.errors import InputError, PromptError
from logprob_store.explorer.one_completion import part_of, row_of
from logprob_store.token_bytes import token_bytes
from logprob_store.view.page.token_view import token_views
from logprob_store.what_if.continuing import Written, continuing_request

if TYPE_CHECKING:
    from logprob_store.explorer.questions import Questions
    from logprob_store.what_if.asking import WhatIf

_BEFORE: Final = 400
"""Tokens before the place that are shown."""
_AFTER: Final = 2000
"""Tokens from the place on that are shown of each answer."""
_ASKED_OTHERWISE: Final = (
    "The job asks otherwise than this answer was asked (the server, the parameters or those of the prompt's row), so "
    "that what follows may differ for that too."
)


@dataclass(frozen=True, slots=True)
class Place:
    """A token of a completion: the rows of the answer's text up to it and from it on, and its alternatives."""

    run: str
    completion_id: int
    said: dict[str, Any]
    written: Written
    position: int
    tokens: pl.DataFrame
    alternatives: pl.DataFrame

    @property
    def listed(self) -> pl.DataFrame:
        """The alternatives in this place, the likeliest first, as the page lists them."""
        here = self.alternatives.filter(pl.col("position") == self.position)
        return here.sort("logprob", "rank", descending=[True, False], nulls_last=True)


def find_place(questions: Questions, run: str, completion_id: int, section: str, position: int) -> Place:
    """A token with what stands around it.

    Raises:
        InputError: there is no such token.
    """
    row = row_of(questions, run, completion_id)
    part = part_of(questions, run, row["part"])
    is_it = pl.col("completion_id") == completion_id
    index = pl.col("prompt_index") == row["prompt_index"]
    prompts = questions.prepared.store.only(run).prompts.filter(index).select("messages").head(1)
    whole, tokens, alternatives, asked = pl.collect_all(
        [*(table.filter(is_it) for table in (part.completions, part.tokens, part.alternatives)), prompts]
    )
    in_section = pl.col("section").cast(pl.String) == section
    own = tokens.filter(in_section).sort("position")
    if position not in own["position"]:
        raise InputError(f"completion {completion_id} of run {run} has no token {position} in its section {section!r}")
    said = whole.row(0, named=True)
    before = own.filter(pl.col("position") < position).select(token_bytes()).to_series().to_list()
    sections = frozenset(tokens["section"].cast(pl.String).unique())
    prompt = _read(asked.item()) if asked.height else None
    written = Written(prompt, said["model"], said["text"], section, before, sections)
    return Place(run, completion_id, said, written, position, own, alternatives.filter(in_section))


def alternatives_to_ask(place: Place, what_if: WhatIf) -> dict[str, Any]:
    """Which alternatives can be gone on from, why others cannot, and what a call costs at most.

    `alternatives` has one object for each in the order of `one_token`; `refused` says why it cannot be gone on from.
    `note` says what else is to be known of an answer.
    """
    found = []
    for rank, raw in place.listed.select("rank", token_bytes()).iter_rows():
        try:
            request = continuing_request(what_if.job, place.written, raw)
        except (InputError, PromptError) as error:
            found.append({"rank": rank, "refused": str(error), "most_usd": None})
        else:
            found.append({"rank": rank, "refused": None, "most_usd": what_if.most_usd(request)})
    said = place.said
    alike = what_if.asked_alike(place.written.prompt, said["request_key"], said["sample_index"])
    return {
        "server": what_if.server,
        "model": what_if.job.model.name,
        "note": None if alike else _ASKED_OTHERWISE,
        "alternatives": found,
    }


async def gone_on(place: Place, what_if: WhatIf, rank: int) -> dict[str, Any]:
    """Ask for what follows the alternative of a rank, and show it beside the original.

    `sides` are the views of the original and of what there would have been; both have the tokens before `position`.

    Raises:
        InputError: there is no such alternative, or it cannot be gone on from.
        LogprobStoreError: as `WhatIf.ask`.
    """
    found = place.listed.filter(pl.col("rank") == rank)
    if not found.height:
        raise InputError(f"token {place.position} has no alternative of rank {rank}")
    request = continuing_request(what_if.job, place.written, found.select(token_bytes()).item(0, 0))
    answer = await what_if.ask(request)
    (said, *_) = answer.completions.to_dicts()
    first = pl.col("completion_id") == said["completion_id"]
    tokens = [answer.tokens.filter(first), answer.alternatives.filter(first)]
    return {
        "position": place.position,
        "sides": [_view(place.tokens, place.alternatives, place), _gone_on(place, rank, *tokens)],
        "finish_reason": said["finish_reason"],
        "source": said["source"],
        "cost_usd": said["cost_usd"],
        "request_key": request.key,
    }


def _gone_on(place: Place, rank: int, tokens: pl.DataFrame, alternatives: pl.DataFrame) -> dict[str, Any]:
    """The text so far, the alternative, and what follows it."""
    position = pl.col("position")
    instead = place.alternatives.filter((position == place.position) & (pl.col("rank") == rank))
    before = place.tokens.filter(position < place.position)
    names = [name for name in place.tokens.columns if name in tokens.columns]
    written = pl.concat([before.select(names), instead.select(names), _after(place, tokens, before.select(names))])
    beside = place.alternatives.filter(position <= place.position).select(*names, "rank")
    return _view(written, pl.concat([beside, _after(place, alternatives, beside)]), place)


def _after(place: Place, rows: pl.DataFrame, like: pl.DataFrame) -> pl.DataFrame:
    """The rows of the text that follows, with the columns of others, and positions that go on from the place."""
    content = rows.filter(pl.col("section").cast(pl.String) == "content")
    moved = content.with_columns(pl.col("position") + place.position + 1, section=pl.lit("content"))
    return moved.select(like.columns).cast(like.schema)


def _view(tokens: pl.DataFrame, alternatives: pl.DataFrame, place: Place) -> dict[str, Any]:
    """The view of an answer around a place."""
    near = pl.col("position").is_between(place.position - _BEFORE, place.position + _AFTER)
    keys = {"run": pl.lit(place.run), "completion_id": pl.lit(place.completion_id)}
    rows, others = (table.filter(near).with_columns(**keys) for table in (tokens, alternatives))
    views = token_views(rows, others)
    view = views.get((place.run, place.completion_id), {"sections": []})
    return {**view, "left_out": tokens.filter(pl.col("position") > place.position + _AFTER).height}


def _read(written: str | None) -> Any:
    """A prompt as it is stored."""
    try:
        return None if written is None else json.loads(written)
    except json.JSONDecodeError:
        return None
