"""Typed questions as the decisions API takes them, and what is wrong with those that it would refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOST_QUESTIONS: Final = 400
MOST_CHOICES: Final = 255
_FEWEST_OPTIONS: Final = 2
_OPTIONS: Final = {"predicate": None, "choice": ("choices", "value"), "score": ("levels", "label")}
"""By type, the list of a question's options and the key that tells one from another."""


def problem_of_questions(questions: Any) -> str | None:
    """Why a list of questions would be refused; None if nothing is known to be wrong with it.

    >>> problem_of_questions([{"type": "predicate", "name": "late", "instructions": "The parcel is late."}]) is None
    True
    >>> problem_of_questions([{"type": "choice", "instructions": "Mood?", "choices": [{"value": "good"}]}])
    'question 0: choices has 1 option; it takes from 2 to 255'
    """
    if not isinstance(questions, list) or not questions:
        return "there is no list of questions"
    if len(questions) > MOST_QUESTIONS:
        return f"there are {len(questions)} questions; one call takes {MOST_QUESTIONS} at most"
    names = [question["name"] for question in questions if isinstance(question, dict) and question.get("name")]
    if len(set(map(str, names))) < len(names):
        return f"two questions have the name {next(name for name in names if names.count(name) > 1)!r}"
    return next((said for n, question in enumerate(questions) for said in _problems_of_question(n, question)), None)


def _problems_of_question(number: int, question: Any) -> Iterator[str]:
    if not isinstance(question, dict):
        yield f"question {number} is no object"
        return
    name = question.get("name")
    place = f"question {number if name is None else repr(name)}"
    if name is not None and not isinstance(name, str):
        yield f"question {number}: its name is no text"
    kind = question.get("type")
    if not isinstance(kind, str) or kind not in _OPTIONS:
        yield f"{place}: its type is {kind!r}, and not one of {', '.join(_OPTIONS)}"
        return
    if not question.get("instructions"):
        yield f"{place}: it has no instructions"
    if (options := _OPTIONS[kind]) is not None:
        yield from (f"{place}: {said}" for said in _problems_of_options(question, *options))


def _problems_of_options(question: Mapping[str, Any], key: str, told_by: str) -> Iterator[str]:
    options = question.get(key)
    if not isinstance(options, list) or not all(isinstance(option, dict) for option in options):
        yield f"{key} is no list of objects with a {told_by}"
        return
    most = MOST_CHOICES if key == "choices" else None
    if len(options) < _FEWEST_OPTIONS or (most is not None and len(options) > most):
        takes = f"from {_FEWEST_OPTIONS} to {most}" if most is not None else f"{_FEWEST_OPTIONS} at least"
        yield f"{key} has {len(options)} option{'s' if len(options) != 1 else ''}; it takes {takes}"
    values = [option.get(told_by) for option in options]
    kinds = (str, bool) if told_by == "value" else (str,)
    for value in values:
        if type(value) not in kinds or value == "":
            said = "a text, true or false" if told_by == "value" else "a text"
            yield f"{key}: a {told_by} is {value!r}, and not {said}"
            return
    # A text and a boolean are two values, whatever their spelling.
    if len({(type(value), value) for value in values}) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        yield f"{key}: {str(twice).lower() if isinstance(twice, bool) else repr(twice)} is there twice"
