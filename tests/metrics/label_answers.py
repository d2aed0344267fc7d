"""Answers as tables of tokens and alternatives, and their label probabilities."""

from __future__ import annotations

from math import log
from typing import Any

import polars as pl

import logprob_store as ls

Step = tuple[str | bytes, float | None, dict[str | bytes, float | None]]
"""The chosen token, its logprob, and the listed alternatives with theirs; the chosen one may be missing there."""


def tables(*answers: list[Step], section: str = "content") -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """The tokens and the alternatives of answers."""
    tokens, alternatives = [], []
    for number, steps in enumerate(answers):
        for position, (token, logprob, listed) in enumerate(steps):
            where = {"run": "r", "completion_id": number, "section": section, "position": position}
            tokens.append({**where, **spelled(token), "logprob": logprob})
            alternatives += [
                {**where, "rank": rank, **spelled(other), "logprob": value}
                for rank, (other, value) in enumerate(listed.items(), 1)
            ]
    schema = {
        "run": pl.String,
        "completion_id": pl.Int64,
        "section": pl.String,
        "position": pl.Int32,
        "rank": pl.Int16,
        "token": pl.String,
        "bytes": pl.Binary,
        "token_id": pl.Int32,
        "logprob": pl.Float64,
    }
    return pl.LazyFrame(tokens, schema=schema).drop("rank"), pl.LazyFrame(alternatives, schema=schema)


def spelled(token: str | bytes) -> dict[str, Any]:
    """The string and the bytes of a token."""
    if isinstance(token, bytes):
        return {"token": token.decode("utf-8", "replace"), "bytes": token}
    return {"token": token, "bytes": None}


def step(listed: dict[str | bytes, float | None], chosen: str | bytes | None = None) -> Step:
    """A step given as probabilities; the first listed token is the chosen one unless one is given."""
    logs = {token: None if p is None else log(p) for token, p in listed.items()}
    chosen = next(iter(listed)) if chosen is None else chosen
    return chosen, logs[chosen], logs


def labels(*answers: list[Step], names: Any, **kwargs: Any) -> list[dict[str, Any]]:
    """The rows of each answer and label, in order."""
    found = ls.label_probabilities(*tables(*answers), names, **kwargs).collect()
    return found.sort("completion_id", "label_index").to_dicts()


def masses(*answers: list[Step], names: Any, **kwargs: Any) -> list[tuple[float, float, float]]:
    """The mass, mass_lower and mass_upper of each row, rounded."""
    rows = labels(*answers, names=names, **kwargs)
    return [tuple(round(row[name], 9) for name in ("mass", "mass_lower", "mass_upper")) for row in rows]
