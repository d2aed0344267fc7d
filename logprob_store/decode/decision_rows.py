"""Rows of decisions: the answers to typed questions, one row for each option, and the answers rebuilt from the rows.

An answer belongs to the question of its name, or of its place where it has no name. A question without an answer has a
row all the same, so that it is seen; so has an answer that nobody asked for, behind all questions.

The template is `{"shape": "decisions"}`. Where the answers are not those of the rows in order, because one is missing,
odd or in another place, `order` lists the question_index of each. The patch has all that a row cannot hold: a
probability that is none, further keys, whole answers of no known type.
"""

from __future__ import annotations

import json
import math
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import polars as pl

from logprob_store.decode import wire
from logprob_store.decode.formats.body import list_or_empty, objects_in, text_or_none
from logprob_store.errors import DecodeError
from logprob_store.schema import DECISIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from logprob_store.decode.decoding_task import DecodingTask

SHAPE: Final = "decisions"

_TYPES: Final = ("predicate", "choice", "score")
_ROUNDED: Final = 1.001
"""A probability up to this is 1: servers add up rounded numbers."""
_NUMBERS: Final = (int, float)


class DecisionRow(NamedTuple):
    """A row of the table, without its completion_id."""

    question_index: int
    question: str | None
    question_type: str | None = None
    refused: bool = False
    option_index: int | None = None
    value: str | None = None
    value_type: str | None = None
    label: str | None = None
    chosen: bool | None = None
    probability: float | None = None
    probability_flag: str | None = None
    confidence: float | None = None
    score: float | None = None


class DecisionRows:
    """The rows of many completions, and the table that they make."""

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []

    def add(self, completion_id: int, rows: Iterable[DecisionRow]) -> None:
        """Append the rows of one completion; completions come in the order of their ids."""
        self._rows += [(completion_id, *row) for row in rows]

    def table(self, keep: Callable[[int], bool]) -> pa.Table:
        """The table of the completions to keep."""
        rows = [row for row in self._rows if keep(row[0])]
        frame = pl.DataFrame(rows, schema=DECISIONS, orient="row", strict=False)
        return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def read_decisions(task: DecodingTask, rows: DecisionRows, wire_texts: dict[int, str]) -> None:
    """Add the rows of an answer's decisions, and the text of its `wire` column.

    Raises:
        DecodeError: no question has an answer, not even a refusal.
    """
    answers = task.choice.decisions or []
    asked = objects_in(task.answer.request.body.get("questions"))
    places = _places(asked, answers)
    without = set(range(len(asked))).difference(places)
    found = [
        row
        for place, answer in zip(places, answers, strict=True)
        for row in _rows_of_answer(place, answer, asked[place] if place < len(asked) else {})
    ]
    if all(row.option_index is None and not row.refused for row in found):
        raise DecodeError(f"{task.choice.path}: none is an answer to a question", error_type="no_decisions")
    missing = [DecisionRow(n, _name(asked[n]), _type_of(asked[n])) for n in without]
    found = sorted([*found, *missing], key=lambda row: (row.question_index, row.option_index or 0))
    template: dict[str, Any] = {"shape": SHAPE}
    if places != _places_of_rows(found):
        template["order"] = places
    wire_texts[task.completion_id] = wire.with_patch(template, rebuild_decisions(template, found), answers)
    rows.add(task.completion_id, found)


def refuse_undecided(task: DecodingTask) -> None:
    """Raise DecodeError for an answer of another API to a request for decisions."""
    raise DecodeError(
        f"{task.choice.path}: an answer with a text in place of `answers`: the server takes /decisions for another API",
        error_type="no_decisions",
    )


def rebuild_decisions(template: Mapping[str, Any], rows: Sequence[DecisionRow]) -> list[Any]:
    """The list of answers, as far as template and rows determine it; the patch corrects the rest."""
    by_question = {place: list(held) for place, held in groupby(rows, key=itemgetter(0))}
    order = template.get("order")
    return [_rebuild_answer(by_question[place]) for place in (list(by_question) if order is None else order)]


def _places(asked: Sequence[Mapping[str, Any]], answers: Sequence[Any]) -> list[int]:
    """The question_index of each answer; one that was not asked for comes behind all questions.

    >>> _places([{"name": "a"}, {"name": "b"}], [{"name": "b"}, {"name": "x"}, {"name": "a"}])
    [1, 2, 0]
    """
    names = [_name(question) for question in asked]
    free = dict.fromkeys(range(len(asked)))
    places: list[int] = []
    for n, answer in enumerate(answers):
        name = _name(answer)
        if n in free and name in (None, names[n]):
            place = n
        else:
            place = next((one for one in free if name is not None and names[one] == name), -1)
        free.pop(place, None)
        places.append(place)
    behind = iter(range(len(asked), len(asked) + len(answers)))
    return [next(behind) if place < 0 else place for place in places]


def _places_of_rows(rows: Iterable[DecisionRow]) -> list[int]:
    return [place for place, _ in groupby(rows, key=itemgetter(0))]


def _name(held: Any) -> str | None:
    return text_or_none(held.get("name")) if isinstance(held, dict) else None


def _type_of(held: Mapping[str, Any]) -> str | None:
    kind = held.get("type")
    return kind if isinstance(kind, str) and kind in _TYPES else None


def _rows_of_answer(place: int, answer: Any, asked: Mapping[str, Any]) -> Iterator[DecisionRow]:
    """The rows of one answer: one for each option; one without an option where there is none."""
    if not isinstance(answer, dict):
        yield DecisionRow(place, _name(asked), _type_of(asked))
        return
    name = _name(answer) or _name(asked)
    kind = _type_of(answer)
    if answer.get("type") == "refusal":
        yield DecisionRow(place, name, _type_of(asked), refused=True)
    elif kind == "predicate":
        probability, flag = _probability(answer.get("probability"))
        base = DecisionRow(place, name, kind, value_type="boolean", probability_flag=flag)
        yield base._replace(option_index=0, value="true", probability=probability)
        other = None if probability is None else 1.0 - probability
        yield base._replace(option_index=1, value="false", probability=other)
    elif kind is None:
        yield DecisionRow(place, name, _type_of(asked))
    else:
        yield from _option_rows(DecisionRow(place, name, kind), answer)


def _option_rows(base: DecisionRow, answer: Mapping[str, Any]) -> Iterator[DecisionRow]:
    """The rows of a choice or a score."""
    base = base._replace(confidence=_number(answer.get("confidence")), score=_number(answer.get("score")))
    choice = _typed(answer.get("choice"))
    listed = list_or_empty(answer.get("probabilities"))
    for n, option in enumerate(listed):
        held = option if isinstance(option, dict) else {}
        value, value_type = _typed(held.get("value"))
        probability, flag = _probability(held.get("probability"))
        yield base._replace(
            option_index=n,
            value=value,
            value_type=value_type,
            label=text_or_none(held.get("label")),
            chosen=None if base.question_type == "score" else value is not None and (value, value_type) == choice,
            probability=probability,
            probability_flag=flag,
        )
    if not listed:
        yield base


def _typed(value: Any) -> tuple[str | None, str | None]:
    """An option's value as text, and its type; a string and a boolean of one spelling are two values."""
    if isinstance(value, str):
        return text_or_none(value), "string"
    if isinstance(value, bool):
        return json.dumps(value), "boolean"
    return (json.dumps(value), "number") if type(value) in _NUMBERS else (None, None)


def _untyped(row: DecisionRow) -> Any:
    """The value that a row has."""
    if row.value is None or row.value_type == "string":
        return row.value
    return json.loads(row.value)


def _number(value: Any) -> float | None:
    return float(value) if type(value) in _NUMBERS and abs(value) < math.inf and abs(value) < 1e300 else None  # noqa: PLR2004


def _probability(value: Any) -> tuple[float | None, str | None]:
    """A probability, or why the value is none.

    >>> _probability(0.25), _probability(1.0000001), _probability(float("nan")), _probability(-0.5)
    ((0.25, None), (1.0, None), (None, 'not_finite'), (None, 'negative'))
    """
    if type(value) not in _NUMBERS:
        return None, "missing"
    if value != value or value in (math.inf, -math.inf):  # noqa: PLR0124 - NaN is no number that equals itself
        return None, "not_finite"
    if value < 0:
        return None, "negative"
    return (min(float(value), 1.0), None) if value <= _ROUNDED else (None, "above_one")


def _rebuild_answer(rows: Sequence[DecisionRow]) -> dict[str, Any] | None:
    first = rows[0]
    if first.refused:
        return {"type": "refusal", "name": first.question}
    if first.question_type is None:
        return None
    base = {"type": first.question_type, "name": first.question}
    options = [row for row in rows if row.option_index is not None]
    if first.question_type == "predicate":
        return {**base, "probability": first.probability}
    if first.question_type == "choice":
        chosen = next((_untyped(row) for row in options if row.chosen), None)
        listed = [{"value": _untyped(row), "probability": row.probability} for row in options]
        return {**base, "choice": chosen, "probabilities": listed, "confidence": first.confidence}
    listed = [{"value": _untyped(row), "label": row.label, "probability": row.probability} for row in options]
    return {**base, "score": first.score, "probabilities": listed, "confidence": first.confidence}
