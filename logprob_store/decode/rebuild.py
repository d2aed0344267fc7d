"""Each choice's `logprobs` as it was on the wire, rebuilt from the tables alone.

With it a test can check that nothing is lost. Exact and slow: for checks and exports, not for analysis.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import polars as pl

from logprob_store.decode.decision_rows import SHAPE, DecisionRow, rebuild_decisions
from logprob_store.decode.formats.registry import rebuild, restore
from logprob_store.decode.token_rows import Token, wire_number
from logprob_store.decode.wire import apply_patch

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

_COLUMNS = ("token", "bytes", "token_id", "logprob", "logprob_flag", "logprob_wire")


def rebuild_logprobs(
    completions: pl.DataFrame | pa.Table,
    tokens: pl.DataFrame | pa.Table,
    alternatives: pl.DataFrame | pa.Table,
    decisions: pl.DataFrame | pa.Table | None = None,
) -> dict[int, Any]:
    """By completion_id, the logprobs part of that choice as `json.loads` gives it from the wire.

    Each format's module says what that part is; for most it is the value of the choice's `logprobs`. Where vLLM sent
    `prompt_logprobs` too, it is `{"logprobs": ..., "prompt_logprobs": ...}`. For a stream, it is the part of the body
    that `merge_stream` makes. None stands for null and for an absent key; the `wire` column tells them apart.

    Args:
        completions: the completions to rebuild; rows of others are ignored.
        tokens: their tokens, in any order.
        alternatives: their alternatives, in any order. All rows must be of one run.
        decisions: their decisions, in any order; not needed where no question was asked.
    """
    rows = _frame(completions).select("completion_id", "wire").rows()
    asked = {completion_id for completion_id, _ in rows}
    others: defaultdict[tuple[int, str, int], list[Token]] = defaultdict(list)
    for completion_id, section, position, *values in _rows(alternatives, ("completion_id", "position", "rank")):
        if completion_id in asked:
            others[completion_id, section, position].append(_token(values))
    found: defaultdict[int, defaultdict[str, list[Token]]] = defaultdict(lambda: defaultdict(list))
    for completion_id, section, position, *values in _rows(tokens, ("completion_id", "position")):
        if completion_id in asked:
            listed = others.get((completion_id, section, position), ())
            found[completion_id][section].append(_token(values)._replace(alternatives=listed))
    decided: defaultdict[int, list[DecisionRow]] = defaultdict(list)
    for completion_id, *row in () if decisions is None else _decision_rows(decisions):
        decided[completion_id].append(DecisionRow(*row))
    return {completion_id: _rebuild(wire, found[completion_id], decided[completion_id]) for completion_id, wire in rows}


def _rebuild(wire: str, tokens: Mapping[str, list[Token]], decisions: list[DecisionRow]) -> Any:
    template = json.loads(wire)
    if template["shape"] == SHAPE:
        return apply_patch(rebuild_decisions(template, decisions), template.get("patch", []))
    prompt_template = template.get("prompt_logprobs")
    if prompt_template is None:
        return _rebuild_one(template, tokens)
    echoed = prompt_template["shape"] == "other" or "echo" in prompt_template
    own = tokens if echoed else {**tokens, "prompt": []}  # the prompt's rows are those of `logprobs` only if echoed
    return {"logprobs": _rebuild_one(template, own), "prompt_logprobs": _rebuild_one(prompt_template, tokens)}


def _rebuild_one(template: Mapping[str, Any], tokens: Mapping[str, list[Token]]) -> Any:
    value = apply_patch(rebuild(template, tokens), template.get("patch", []))
    return restore(template["layout"], value) if "layout" in template else value


def _token(values: list[Any]) -> Token:
    text, token_bytes, token_id, logprob, flag, wire = values
    return Token(text, token_bytes, token_id, wire_number(logprob, flag, wire))


def _rows(table: pl.DataFrame | pa.Table, order: tuple[str, ...]) -> list[tuple[Any, ...]]:
    keys = ("completion_id", "section", "position")
    frame = _frame(table).sort(order, maintain_order=True)
    return frame.select(*keys, *_COLUMNS).with_columns(pl.col("section", "logprob_flag").cast(pl.String)).rows()


def _decision_rows(table: pl.DataFrame | pa.Table) -> list[tuple[Any, ...]]:
    frame = (
        _frame(table)
        .select("completion_id", *DecisionRow._fields)
        .sort("completion_id", "question_index", "option_index", nulls_last=False)
    )
    return frame.with_columns(pl.col("question_type", "value_type", "probability_flag").cast(pl.String)).rows()


def _frame(table: pl.DataFrame | pa.Table) -> pl.DataFrame:
    if isinstance(table, pl.DataFrame):
        return table
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"expected a table, got {type(table).__name__}")
    return frame
