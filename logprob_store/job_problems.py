"""What is wrong with a job file, in words: the key, what it has to be, what it is, and where it belongs.

pydantic finds the problems; its own words speak of Python ("a valid tuple", a regular expression), which a job file
does not.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_Place = tuple[int | str, ...]

_LONGEST_VALUE: Final = 60
_HEADER: Final = 3
"""The parts of model.headers.NAME."""
_WORDS: Final = {
    "bool_parsing": "has to be true or false, without quotes",
    "bool_type": "has to be true or false, without quotes",
    "date_from_datetime_parsing": "has to be a day, as 2027-01-14",
    "date_type": "has to be a day, as 2027-01-14",
    "dict_type": "has to be a table, as {{ name = value }}",
    "finite_number": "has to be a finite number",
    "float_parsing": "has to be a number{unit}",
    "float_type": "has to be a number{unit}",
    "greater_than": "has to be above {gt}",
    "greater_than_equal": "has to be at least {ge}",
    "int_from_float": "has to be a whole number",
    "int_parsing": "has to be a whole number",
    "int_parsing_size": "has to be a smaller number",
    "int_type": "has to be a whole number",
    "less_than": "has to be below {lt}",
    "less_than_equal": "has to be at most {le}",
    "literal_error": "has to be one of {expected}",
    "model_type": "has to be a section: [{key}] on a line of its own, and its keys below it",
    "string_too_short": "is empty",
    "too_short": "is empty",
    "string_type": "has to be a text in quotes",
    "tuple_type": 'has to be a list, as ["one", "two"]',
}
_UNITS: Final = {"_s": " of seconds", "_usd": " of US dollars", "_minute": " per minute"}
FROM_ENVIRONMENT: Final = (
    'has to be a text in quotes, or { env = "VARIABLE" } for a value that stands in an environment variable'
)
_KEYS: Final = frozenset({"api_key", "key", "token", "openai_api_key", "api_token"})
_NO_KEY: Final = (
    "an API key stands in no file: put it into an environment variable, and name that in model.api_key_env (OpenAI's "
    "own address needs no name, if it is OPENAI_API_KEY)"
)
_OF_UNION: Final = re.compile(r"str|bool|tuple\[.*|ChoiceOption|ScoreLevel")
"""What pydantic has in the place of a problem for each kind of value that an option of a question may be."""
_OPTIONS: Final[dict[int | str, str]] = {"ChoiceOption": "value", "ScoreLevel": "label"}
_TUPLE: Final = re.compile(r"\(((?:'[^']*',? ?)+)\)")


def job_problems(error: ValidationError, job: type[BaseModel], patterns: dict[str, str]) -> list[str]:
    """One line for each problem: the key, and what is wrong with it.

    Args:
        error: what pydantic found.
        job: the model of a whole job file.
        patterns: from the regular expressions of the model to what they ask for, in words.
    """
    lines = []
    of_options: dict[_Place, list[str]] = {}
    for problem in error.errors():
        place = problem["loc"]
        said = _said(problem, job, patterns)
        if place[0:1] == ("questions",):
            place = tuple(part for part in place if isinstance(part, int) or not _OF_UNION.fullmatch(part))
            of_options.setdefault(place, []).append(said)
            continue
        if place[:2] == ("model", "headers") and len(place) > _HEADER:
            # A text or a table: of each, below a name of its own, pydantic says why the value is not that.
            place = (*place[:_HEADER], *place[_HEADER + 1 :])
            if len(place) == _HEADER and isinstance(problem["input"], dict):
                continue
            said = said if len(place) > _HEADER else FROM_ENVIRONMENT
        lines.append(f"{_dotted(place)}: {said}" if place else said)
    lines += [f"{_dotted(place)}: {said}" for place, said in _one_of_each(of_options).items()]
    return list(dict.fromkeys(lines))


def _one_of_each(said: dict[_Place, list[str]]) -> dict[_Place, str]:
    """One sentence for each place, where pydantic has one for each kind of value that could stand there.

    A place is left out where another one inside it says more: the value was of the right kind there.
    """
    found = {}
    for place, sentences in said.items():
        if any(len(other) > len(place) and other[: len(place)] == place for other in said):
            continue
        *first, last = sentences
        kinds = [sentence.rpartition(", not ")[0].removeprefix("has to be ") for sentence in first]
        found[place] = ", or ".join([*kinds, last.removeprefix("has to be ")])
        if last.startswith("has to be "):
            found[place] = f"has to be {found[place]}"
    return found


def toml_problem(error: Exception) -> str:
    """What Python's TOML reader says, with names of tables as a job file has them.

    >>> toml_problem(ValueError("Cannot declare ('model', 'params') twice (at line 12, column 7)"))
    'Cannot declare model.params twice (at line 12, column 7)'
    """
    return _TUPLE.sub(lambda found: ".".join(re.findall(r"'([^']*)'", found[1])), str(error))


def _said(problem: ErrorDetails, job: type[BaseModel], patterns: dict[str, str]) -> str:
    kind, place = problem["type"], problem["loc"]
    if kind == "extra_forbidden":
        return f"unknown key{_advice(place, job)}"
    if kind == "missing":
        section = _section(place[:1], job) if len(place) == 1 else None
        return "is missing" if section is None else f"is missing: a section [{place[0]}]"
    if kind == "value_error":
        return problem["msg"].removeprefix("Value error, ")
    context = problem.get("ctx", {})
    if place == ("questions",):
        said = "has to be a section for each: [[questions]] on a line of its own, and its keys below it"
    elif kind == "model_type" and place[-1] in _OPTIONS:
        said = f'has to be a table, as {{ {_OPTIONS[place[-1]]} = "one" }}'
    elif kind == "string_pattern_mismatch":
        said = patterns[context["pattern"]]
    elif kind in _WORDS:
        key = str(place[-1])
        unit = next((unit for end, unit in _UNITS.items() if key.endswith(end)), "")
        said = _WORDS[kind].format(**{**context, "unit": unit, "key": _dotted(place)})
    else:
        said = problem["msg"]
    return (
        said
        if kind in {"string_too_short", "too_short"} or _may_be_secret(place)
        else f"{said}, not {_shown(problem['input'])}"
    )


def _may_be_secret(place: _Place) -> bool:
    return place[:2] in {("model", name) for name in ("headers", "query", "api_key_env", "base_url")}


def _shown(value: Any) -> str:
    """A value as a job file has it, shortened."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _dotted(place: _Place) -> str:
    """A key as people write it.

    >>> _dotted(("prompts", "keep", 0))
    'prompts.keep[0]'
    """
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def _advice(place: _Place, job: type[BaseModel]) -> str:
    """What to do about a key that nobody knows."""
    section, key = _section(place[:-1], job), str(place[-1])
    if section is None:
        return ""
    if key.lower() in _KEYS:
        return f"; {_NO_KEY}"
    known = _names(section)
    if near := difflib.get_close_matches(key, known, n=1):
        return f"; did you mean {near[0]}?"
    for name, field in job.model_fields.items():
        other = field.annotation
        if other is not section and isinstance(other, type) and issubclass(other, BaseModel) and key in _names(other):
            return f"; it is a key of [{name}]"
    listed = f"known here: {', '.join(known)}"
    if place[:-1] == ("model",):
        return f"; a parameter of the request belongs into model.params, as params = {{ {key} = ... }}; {listed}"
    return f"; {listed}"


def _section(place: Sequence[int | str], job: type[BaseModel]) -> type[BaseModel] | None:
    """The model of a section; None where there is none."""
    section = job
    for part in place:
        field = section.model_fields.get(str(part))
        kind = None if field is None else field.annotation
        kind = next((held for held in get_args(kind) if held is not type(None)), kind)  # of `Takes | None`
        if not (isinstance(kind, type) and get_origin(kind) is None and issubclass(kind, BaseModel)):
            return None
        section = kind
    return section


def _names(section: type[BaseModel]) -> list[str]:
    """The keys that a file may have."""
    return [name for name, field in section.model_fields.items() if not field.exclude]
