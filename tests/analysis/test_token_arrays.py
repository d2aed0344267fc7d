"""A part's tokens as arrays: their rows, their order, and when there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from builders import full_table, write_run
from polars.testing import assert_frame_equal

import logprob_store as ls
from logprob_store.analysis.opened_store import open_store
from logprob_store.analysis.token_arrays import read_in_order
from logprob_store.errors import StoreError
from logprob_store.metrics.engine.catalogue import SCORES
from logprob_store.schema import COMPLETIONS, TOKENS

if TYPE_CHECKING:
    from pathlib import Path

OF_TOKENS = [name for name, score in SCORES.items() if not score.reads_alternatives]

Row = tuple[int, str, int, float | None]


def token_table(rows: list[Row]) -> Any:
    """The tokens table of completion_id, section, position and logprob."""
    named = ("completion_id", "section", "position", "logprob")
    frame = pl.DataFrame(rows, schema=dict.fromkeys(named), orient="row")
    return full_table(TOKENS, frame.to_dict(as_series=False))


def read(path: Path, rows: list[Row], *, row_group_size: int | None = None) -> Any:
    """The result of `read_in_order` for a file of these rows."""
    file = path / "part.parquet"
    pq.write_table(token_table(rows), file, row_group_size=row_group_size)
    return read_in_order(file, places=True)


def test_answers_of_one_section(tmp_path: Path) -> None:
    """The arrays have ids, logprobs, and places that grow by one; all tokens are scored."""
    tokens = read(tmp_path, [(1, "content", 0, -1.0), (1, "content", 1, -2.0), (2, "content", 0, -3.0)])

    assert tokens.completion_id.tolist() == [1, 1, 2]
    assert tokens.logprob.tolist() == [-1.0, -2.0, -3.0]
    assert tokens.scored is None
    assert tokens.place.tolist() == [0, 1, 0]


@pytest.mark.parametrize("row_group_size", [None, 1])
def test_prompts_are_left_out_and_sections_are_apart(tmp_path: Path, row_group_size: int | None) -> None:
    """The places of a refusal do not continue those of the content, with or without statistics."""
    rows: list[Row] = [(1, "prompt", 0, -9.0), (1, "content", 0, None), (1, "refusal", 1, -3.0), (2, "prompt", 0, -9.0)]
    tokens = read(tmp_path, rows, row_group_size=row_group_size)

    assert tokens.completion_id.tolist() == [1, 1]
    assert tokens.logprob.tolist()[1:] == [-3.0]
    assert tokens.scored.tolist() == [False, True]
    assert tokens.place[1] - tokens.place[0] != 1


@pytest.mark.parametrize(("section", "content"), [("content", None), ("tool", [False])])
def test_a_file_of_one_section_says_whether_it_is_the_text(
    tmp_path: Path, section: str, content: list[bool] | None
) -> None:
    """Where all tokens are of the content, there is no array for it."""
    tokens = read(tmp_path, [(1, section, 0, -1.0)])

    assert (tokens.content if content is None else tokens.content.tolist()) == content


def test_a_file_of_a_prompt_and_its_answer_says_which_tokens_are_the_text(tmp_path: Path) -> None:
    """The array has no place for the prompt's token."""
    tokens = read(tmp_path, [(1, "prompt", 0, -9.0), (1, "content", 0, -1.0), (1, "refusal", 0, -2.0)])

    assert tokens.content.tolist() == [True, False]


def test_a_file_of_prompts_has_no_tokens(tmp_path: Path) -> None:
    """Tokens of the prompt are not generated, so there are none."""
    assert len(read(tmp_path, [(1, "prompt", 0, -9.0)]).completion_id) == 0


def test_reasoning_is_not_in_order(tmp_path: Path) -> None:
    """Beside content, reasoning is not in the order of generation; alone, it is."""
    assert read(tmp_path, [(1, "content", 0, -1.0), (1, "reasoning", 0, -2.0)]) is None
    assert read(tmp_path, [(1, "reasoning", 0, -2.0)]).logprob.tolist() == [-2.0]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A run of three parts: answers; reasoning, a null and a gap; an answer without tokens and one with a prompt."""
    parts: list[list[Row]] = [
        [(number, "content", t, -0.1 * (t % 9)) for number in (0, 1) for t in range(40 + number)],
        [(2, "content", 0, -1.0), (2, "content", 2, None), (2, "content", 3, -3.0), (2, "reasoning", 0, -2.0)],
        [(4, "prompt", 0, -9.0), (4, "content", 0, -1.0), (4, "refusal", 1, -2.0)],
    ]
    numbers = [[0, 1], [2], [3, 4]]
    completions = [
        full_table(COMPLETIONS, {"completion_id": ids, "prompt_index": ids, "text": ["answer"] * len(ids)})
        for ids in numbers
    ]
    tables = [
        {"completions": rows, "tokens": token_table(tokens)} for rows, tokens in zip(completions, parts, strict=True)
    ]
    write_run(tmp_path, "run", list(zip(tables, numbers, strict=True)))
    return tmp_path


def test_scores_of_a_store_are_those_of_its_tables(store: Path) -> None:
    """Each named score is that of its expression, also for parts whose rows are not in order."""
    opened = open_store(store)
    expected = ls.scores(*opened.tables(), metrics=OF_TOKENS).sort("completion_id").collect()
    found = opened.scores(metrics=OF_TOKENS).sort("completion_id").collect()

    assert_frame_equal(found, expected, rel_tol=1e-12)
    assert found["scored_tokens"].to_list() == [40, 41, 3, 0, 2]
    # content 0 and 2 are apart, reasoning comes before both: spans of one
    assert found.filter(completion_id=2)["longest_low_confidence_span"].to_list() == [1]


@pytest.mark.parametrize("filtered", [pl.col("perplexity") > 1, pl.col("completion_id") == 4, pl.col("run") == "run"])
def test_filters_and_columns_choose_from_the_same_scores(store: Path, filtered: pl.Expr) -> None:
    """Filters and selected columns give the same rows as on the whole table."""
    opened = open_store(store)
    columns = ["completion_id", "mean_logprob"]
    whole = ls.scores(*opened.tables()).filter(filtered).select(columns).sort("completion_id")

    assert_frame_equal(
        opened.scores().filter(filtered).select(columns).sort("completion_id").collect(), whole.collect(), rel_tol=1e-12
    )


def test_own_expressions_stand_beside_names(store: Path) -> None:
    """A user's expression is computed beside named scores, and not where its column is not selected."""
    opened = open_store(store)
    asked = ["perplexity", ls.sliding_confidence(window=2).alias("by_two")]
    rows = opened.scores(metrics=asked).sort("completion_id")

    assert_frame_equal(rows.collect(), ls.scores(*opened.tables(), metrics=asked).sort("completion_id").collect())
    assert_frame_equal(rows.select("perplexity").collect(), rows.collect().select("perplexity"))


def test_a_damaged_part_is_an_error(store: Path) -> None:
    """A damaged file is an error that names it, not a shorter table."""
    (store / "tokens" / "run=run" / "part-00001.parquet").write_bytes(b"PAR1 no Parquet PAR1")

    with pytest.raises(StoreError, match=r"part-00001\.parquet cannot be read: .*`logprobs verify"):
        open_store(store).scores(metrics=["perplexity"]).collect()
