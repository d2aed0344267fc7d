"""Drift of one token: the statistic by the numbers of its authors' code, its p by enumeration, and what is left out."""

from __future__ import annotations

from itertools import combinations
from math import fsum, log
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

import logprob_store as ls
from logprob_store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Shown = Mapping[str, float | None]

# Three answers on each side; the numbers below are those of the code of arXiv:2512.03816.
MONDAY: list[Shown] = [
    {"a": -0.1, "b": -2.5, "c": -4.0},
    {"a": -0.12, "b": -2.4, "c": -4.1},
    {"a": -0.11, "b": -2.45, "d": -4.2},
]
TUESDAY: list[Shown] = [
    {"a": -0.2, "b": -1.9, "c": -3.9},
    {"a": -0.22, "b": -1.85, "e": -4.0},
    {"a": -0.21, "b": -1.95, "c": -4.05},
]


def night(
    prompts: Mapping[str, Sequence[Shown]], *, position: int = 0
) -> tuple[pl.LazyFrame, pl.LazyFrame, pl.LazyFrame]:
    """The tables of a run: for each prompt its answers, each as what it shows at one place."""
    completions, alternatives = [], []
    for prompt, answers in prompts.items():
        for shown in answers:
            number = len(completions)
            completions.append({"completion_id": number, "prompt_id": prompt})
            place = {"completion_id": number, "section": "content", "position": position, "bytes": None}
            alternatives += [{**place, "token": token, "logprob": logprob} for token, logprob in shown.items()]
    kinds = {"completion_id": pl.Int64, "prompt_id": pl.String}
    shown_kinds = {
        "completion_id": pl.Int64,
        "section": pl.String,
        "position": pl.Int32,
        "bytes": pl.Binary,
        "token": pl.String,
        "logprob": pl.Float64,
    }
    frame = pl.LazyFrame(alternatives, schema=shown_kinds)
    return pl.LazyFrame(), frame, pl.LazyFrame(completions, schema=kinds)


def test_the_numbers_of_its_authors() -> None:
    """A drift of 0.2 over five tokens; of the 20 splits, this one and its mirror are as far apart."""
    (row,) = ls.logprob_drift(night({"p": MONDAY}), night({"p": TUESDAY})).iter_rows(named=True)

    assert (row["answers_a"], row["answers_b"], row["shown_tokens"], row["permutations"]) == (3, 3, 5, 20)
    assert row["drift"] == pytest.approx(0.2, abs=1e-12)
    assert row["p_value"] == pytest.approx(0.1)


def test_it_is_the_same_the_other_way_round() -> None:
    """Two of the answers against the last two, and back."""
    one, other = night({"p": MONDAY[:2]}), night({"p": MONDAY[1:]})

    assert ls.logprob_drift(one, other)["drift"][0] == pytest.approx(ls.logprob_drift(other, one)["drift"][0])


def reference(a: Sequence[Mapping[str, float]], b: Sequence[Mapping[str, float]]) -> float:
    """The definition."""
    tokens = sorted({token for row in [*a, *b] for token in row})
    sides = [
        [fsum(row.get(token, min(row.values())) for row in rows) / len(rows) for token in tokens] for rows in (a, b)
    ]
    return fsum(abs(x - y) for x, y in zip(*sides, strict=True)) / len(tokens)


@pytest.mark.parametrize("seed", range(5))
def test_every_split_is_tried_where_there_are_few(seed: int) -> None:
    """Drift and p are those of the definition, over all splits of four answers and three."""
    generator = np.random.default_rng(seed)
    answers = [
        {token: float(-generator.exponential()) for token in generator.choice([*"abcdef"], 3, replace=False)}
        for _ in range(7)
    ]
    found = ls.logprob_drift(night({"p": answers[:4]}), night({"p": answers[4:]})).row(0, named=True)
    drift = reference(answers[:4], answers[4:])
    others = [
        reference([answers[i] for i in split], [answers[i] for i in range(7) if i not in split])
        for split in combinations(range(7), 4)
    ]

    assert found["drift"] == pytest.approx(drift)
    assert found["p_value"] == pytest.approx(sum(other >= drift - 1e-12 for other in others) / 35)


def test_splits_are_drawn_where_there_are_many() -> None:
    """With 184,756 splits of twenty answers, p is (1 + as far) / (1 + drawn), and the same for the same seed."""
    far = [{"a": -1.0 - number / 100} for number in range(10)]
    near = [{"a": -2.0 - number / 100} for number in range(10)]
    one, other = night({"p": far}), night({"p": near})
    first, again = (ls.logprob_drift(one, other, permutations=999, seed=3).row(0, named=True) for _ in range(2))

    assert first == again
    assert (first["p_value"], first["permutations"]) == (0.001, 999)


def test_p_is_evenly_spread_where_nothing_changed() -> None:
    """Equal models: p is at most 0.1 in about a tenth of 400 prompts (2 of 20 splits, seed 1; 3.3 standard errors)."""
    generator = np.random.default_rng(1)
    prompts = {
        f"p{number}": [{"a": float(generator.normal(-1, 0.1)), "b": float(generator.normal(-2, 0.1))} for _ in range(6)]
        for number in range(400)
    }
    one = night({prompt: answers[:3] for prompt, answers in prompts.items()})
    other = night({prompt: answers[3:] for prompt, answers in prompts.items()})
    share = (ls.logprob_drift(one, other)["p_value"] <= 0.1 + 1e-9).mean()

    assert share == pytest.approx(0.1, abs=0.05)


def test_all_prompts_together_see_what_none_sees() -> None:
    """Three answers a side give no prompt a p below 0.1; twenty prompts that all moved a little do so together."""
    generator = np.random.default_rng(2)

    def answers(shift: float) -> dict[str, list[Shown]]:
        return {f"p{n}": [{"a": float(generator.normal(-1 - shift, 0.1))} for _ in range(3)] for n in range(20)}

    one, same, other = night(answers(0)), night(answers(0)), night(answers(0.1))
    moved = ls.logprob_drift(one, other, by="all", permutations=999).row(0, named=True)
    by_prompt = ls.logprob_drift(one, other)

    assert moved["p_value"] < 0.01
    assert by_prompt["p_value"].min() == pytest.approx(0.1)
    assert moved["drift"] == pytest.approx(by_prompt["drift"].mean())
    assert (moved["prompts"], moved["answers_a"], moved["shown_tokens"]) == (20, 60, 20)
    assert ls.logprob_drift(one, same, by="all", permutations=999)["p_value"][0] > 0.05


def test_flagged_logprobs_and_answers_without_any_are_left_out() -> None:
    """A null is not shown, so it counts as the smallest; an answer of nulls, and another place, count for nothing."""
    one = night({"p": [{"a": -1.0, "b": None}, {"a": None}], "q": [{"a": -1.0}]})
    other = night({"p": [{"a": -1.5, "b": -3.0}]})
    p, q = ls.logprob_drift(one, other).iter_rows(named=True)

    # a: |-1 + 1.5|; b: |-1 + 3|
    assert (p["answers_a"], p["answers_b"], p["drift"], p["p_value"]) == (1, 1, 1.25, 1.0)
    assert (q["answers_a"], q["answers_b"], q["drift"], q["p_value"]) == (1, 0, None, None)


def test_tokens_of_equal_bytes_are_one() -> None:
    """Two tokens that are shown with the same bytes have the sum of their probabilities: 1/4 + 1/4."""
    one, other = night({"p": [{"a": log(1 / 2)}]}), night({"p": [{"x": log(1 / 4), "y": log(1 / 4)}]})
    same = (other[0], other[1].with_columns(bytes=pl.lit(b"a")), other[2])

    assert ls.logprob_drift(one, same)["drift"][0] == pytest.approx(0)


def test_what_cannot_drift_is_an_error() -> None:
    """No alternatives, no place in both, and arguments that mean nothing."""
    one = night({"p": MONDAY})
    with pytest.raises(InputError, match="without alternatives"):
        ls.logprob_drift((one[0], None, one[2]), one)
    with pytest.raises(InputError, match="no prompt has alternatives at position 0 of content in both runs"):
        ls.logprob_drift(one, night({"p": MONDAY}, position=1))
    with pytest.raises(ValueError, match="by 'night' is none of prompt, all"):
        ls.logprob_drift(one, one, by="night")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="permutations 0: at least one"):
        ls.logprob_drift(one, one, permutations=0)
