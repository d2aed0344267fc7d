"""Questions of the job file, whose texts are templates over a row's columns.

Choices and levels may also be a column: `"{options}"` stands for the list in the column `options`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from logprob_store.decision_questions import problem_of_questions
from logprob_store.errors import PromptError
from logprob_store.prompts.template import Template

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Row = Mapping[str, Any]
    Questions = list[dict[str, Any]]

_COLUMN: Final = re.compile(r"\{([^{}]+)\}")
_LISTS: Final = {"choices": "value", "levels": "label"}


def column_of_options(text: str) -> str | None:
    """The column that `"{column}"` names; None for any other text.

    >>> column_of_options("{options}"), column_of_options("{a} or {b}")
    ('options', None)
    """
    found = _COLUMN.fullmatch(text)
    return None if found is None else found.group(1)


@dataclass(frozen=True, slots=True)
class QuestionTemplates:
    """The questions of a job, in order. Make one with `of_job`.

    Args:
        questions: each as the API takes it, with a `Template` for each text, and the name of a column in place of a
            list of options.

    >>> asked = {"name": "topic", "type": "choice", "instructions": "Of {field}?", "choices": "{topics}"}
    >>> questions = QuestionTemplates.of_job([asked])
    >>> questions.roles()
    [('question', 'field'), ('options', 'topics')]
    >>> questions.build({"field": "physics", "topics": ["light", "sound"]})[0]["choices"]
    [{'value': 'light'}, {'value': 'sound'}]
    """

    questions: tuple[dict[str, Any], ...]
    unchanging: Questions | None

    @classmethod
    def of_job(cls, questions: Sequence[Mapping[str, Any]]) -> QuestionTemplates:
        """The questions of a job file; raises TemplateError for a text that is no usable template."""
        made = tuple({key: _as_template(key, value) for key, value in question.items()} for question in questions)
        templates = cls(made, None)
        return templates if templates.roles() else cls(made, templates.build({}))

    def roles(self) -> list[tuple[str, str]]:
        """The columns that the questions need, as pairs of role and name, each once."""
        found = (role for question in self.questions for value in question.values() for role in _roles_in(value))
        return list(dict.fromkeys(found))

    def build(self, row: Row) -> Questions:
        """The questions of a row.

        Args:
            row: the values of its columns; those of options as lists.

        Raises:
            PromptError: a value is null or of no use, or the questions would be refused.
        """
        if self.unchanging is not None:
            return self.unchanging
        questions = [
            {key: _filled(key, value, row) for key, value in question.items() if value is not None}
            for question in self.questions
        ]
        check_questions(questions, "its [[questions]]")
        return questions


def check_questions(questions: Any, where: str) -> None:
    """Raise PromptError for questions that would be refused; `where` says whose they are."""
    if (problem := problem_of_questions(questions)) is not None:
        raise PromptError(f"{where}: {problem}")


def _as_template(key: str, value: Any) -> Any:
    """A value of a question with templates in place of its texts."""
    if key in {"name", "type"} or not isinstance(value, str | list | tuple | dict):
        return value
    if isinstance(value, str):
        column = column_of_options(value) if key in _LISTS else None
        return Template(value) if column is None else _OptionsColumn(column)
    if isinstance(value, dict):
        return {name: _as_template("", held) for name, held in value.items()}
    options = (option if isinstance(option, dict) else {_LISTS[key]: option} for option in value)
    return [_as_template("", option) for option in options]


@dataclass(frozen=True, slots=True)
class _OptionsColumn:
    """Stands for the list of options in a column."""

    name: str


def _roles_in(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, _OptionsColumn):
        yield "options", value.name
    elif isinstance(value, Template):
        yield from (("question", field) for field in value.fields)
    elif isinstance(value, dict):
        yield from (role for held in value.values() for role in _roles_in(held))
    elif isinstance(value, list):
        yield from (role for held in value for role in _roles_in(held))


def _filled(key: str, value: Any, row: Row) -> Any:
    """A value of a question with the row's values in it."""
    if isinstance(value, Template):
        return value.render(row)
    if isinstance(value, dict):
        return {name: _filled("", held, row) for name, held in value.items() if held is not None}
    if isinstance(value, list):
        return [_filled("", held, row) for held in value]
    if isinstance(value, _OptionsColumn):
        listed = row[value.name]
        if not isinstance(listed, list):
            raise PromptError(f"column {value.name!r} holds no list of {key}")
        return [option if isinstance(option, dict) else {_LISTS[key]: option} for option in listed]
    return value
