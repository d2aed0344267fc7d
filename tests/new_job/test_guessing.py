"""What columns are taken for: the prompt, an id, what to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from builders import write_prompts

from logprob_store.new_job.guessing import columns_to_keep, guess_id, guess_messages, guess_prompt
from logprob_store.prompts.input_files import find_inputs
from logprob_store.prompts.overview import found_columns

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.prompts.input_files import InputFile
    from logprob_store.prompts.overview import FoundColumn


def look(folder: Path, columns: dict[str, Any]) -> tuple[list[FoundColumn], list[InputFile]]:
    """The columns of a file with these columns, and the file."""
    write_prompts(folder, columns)
    inputs = find_inputs("prompts.parquet", base=folder)
    return found_columns(inputs), inputs


TEXTS = ["a", "b"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["prompt", "text"], "prompt"),
        (["text", "Question"], "Question"),  # a question is asked about a text
        (["id", "anything"], "anything"),
        (["country", "capital"], None),
        (["title", "user_prompt", "author"], "title"),
        (["author", "customer_review"], "customer_review"),
    ],
)
def test_the_prompt(tmp_path: Path, names: list[str], expected: str | None) -> None:
    """A column that is called so, or the only text; nothing where it could be several."""
    columns, _ = look(tmp_path, dict.fromkeys(names, TEXTS))

    assert guess_prompt(columns) == expected


def test_a_number_is_no_prompt(tmp_path: Path) -> None:
    """The type counts beside the name."""
    columns, _ = look(tmp_path, {"text": [1, 2], "remark": TEXTS})

    assert guess_prompt(columns) == "remark"


def test_conversations(tmp_path: Path) -> None:
    """Lists of objects under a name for them."""
    said = [[{"role": "user", "content": "Hi"}]] * 2
    columns, _ = look(tmp_path, {"messages": said, "tags": [["x"], ["y"]]})

    assert guess_messages(columns) == "messages"
    assert guess_messages([column for column in columns if column.name == "tags"]) is None


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"id": [1, 2], "text": TEXTS}, "id"),
        ({"review_id": [1, 2], "text": TEXTS}, "review_id"),
        ({"id": [1, 1], "ticketId": [1, 2], "text": TEXTS}, "ticketId"),  # an id repeats nothing
        ({"id": [1, None], "text": TEXTS}, None),
        ({"uuid": [0.5, 0.7], "text": TEXTS}, None),  # a float has no exact text
        ({"stars": [1, 2], "text": TEXTS}, None),
    ],
)
def test_the_id(tmp_path: Path, columns: dict[str, Any], expected: str | None) -> None:
    """A column that is called so and could be one; else the row's number will do."""
    found, inputs = look(tmp_path, columns)

    assert guess_id(found, inputs, but="text") == expected


def test_all_others_are_kept(tmp_path: Path) -> None:
    """But for the names that the store uses itself."""
    columns, inputs = look(tmp_path, {"id": [1], "text": ["a"], "stars": [5], "run": ["x"], "tags": [["x"]]})

    assert columns_to_keep(columns, inputs, used=["id", "text"]) == ["stars", "tags"]
