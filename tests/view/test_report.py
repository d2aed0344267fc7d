"""A report: what it shows of a run, which answers it chooses, and how large it is. Pages: tests/browser."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pytest
from builders import answer_with, chat_body, chat_token, decoded_tables, run_demo, write_run

import logprob_store as ls
from logprob_store.decode.decoder import decode_answers
from logprob_store.errors import InputError
from logprob_store.schema import completion_id
from logprob_store.view.report.report_file import write_report
from logprob_store.view.report.samples import chosen_answers

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> ls.Store:
    """The store of the capitals, of one run."""
    path = tmp_path_factory.mktemp("demo") / "store"
    run_demo(path)
    return ls.open_store(path)


def data_of(page: Path) -> dict[str, Any]:
    """What the script of a page reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


WORD = chat_token("word ", -0.5, {f"other {number}": -2.0 - number for number in range(5)})


def long_run(path: Path, answers: int, token: dict[str, Any] = WORD) -> None:
    """A run of equal answers, each of 300 times one token."""
    one = decoded_tables(decode_answers([answer_with(chat_body([token] * 300), top_logprobs=5)]))
    parts = []
    for number in range(answers):
        ids = pa.scalar(completion_id(number), pa.int64())
        tables = {
            name: table.set_column(0, table.schema.field(0), pa.repeat(ids, table.num_rows))
            for name, table in one.items()
        }
        parts.append((tables, [number]))
    write_run(path, "long", parts)


def test_it_has_the_figures_of_the_run(demo: ls.Store, tmp_path: Path) -> None:
    """As `status` and `scores` have them."""
    write_report(demo, "demo", tmp_path / "r.html")

    text = re.sub(r"<[^>]*>", " ", (tmp_path / "r.html").read_text())
    middle = demo.scores().select(pl.col("confidence").median()).collect().item()
    assert re.search(r"Answers\s+243\s+to 243 prompts; 243 replayed", text)
    assert re.search(rf"Median confidence\s+{middle:.3f}", text)


def test_the_least_sure_answers_are_the_least_sure(demo: ls.Store, tmp_path: Path) -> None:
    """In the order of their confidence."""
    write_report(demo, "demo", tmp_path / "r.html")

    samples = [one for one in data_of(tmp_path / "r.html")["samples"] if "least sure" in one["groups"]]
    expected = demo.scores().sort("confidence").head(50).collect()
    assert {one["prompt_id"] for one in samples} == set(expected["prompt_id"])


def test_answers_are_held_against_the_truth(demo: ls.Store, tmp_path: Path) -> None:
    """By the column that --expected names."""
    write_report(demo, "demo", tmp_path / "r.html", expected="capital")

    by_id = {one["prompt_id"]: one["right"] for one in data_of(tmp_path / "r.html")["samples"]}
    assert (by_id["PN"], by_id["CV"]) == (False, True)


def test_a_column_that_was_not_kept_is_an_error(demo: ls.Store, tmp_path: Path) -> None:
    """Which says what there is, before anything is written."""
    with pytest.raises(InputError, match="no column 'town' was kept with the prompts; there are: country, capital"):
        write_report(demo, "demo", tmp_path / "r.html", expected="town")
    assert not (tmp_path / "r.html").exists()


def test_a_large_run_makes_no_large_file(tmp_path: Path) -> None:
    """At most 3 MB; what had no room is counted."""
    long_run(tmp_path / "store", 120)
    written = write_report(ls.open_store(tmp_path / "store"), "long", tmp_path / "r.html")

    assert 1_500_000 < (tmp_path / "r.html").stat().st_size == written["bytes"] <= 3_000_000
    assert written["left_out"] > 0


def test_hostile_text_makes_no_large_file(tmp_path: Path) -> None:
    """Though each `<` takes six bytes in a page; a long answer loses tokens from its end, and says how many."""
    tops = {"<" * 90 + str(number): -2.0 - number for number in range(5)}
    long_run(tmp_path / "store", 30, chat_token("<" * 100, -0.5, tops))
    write_report(ls.open_store(tmp_path / "store"), "long", tmp_path / "r.html")

    assert (tmp_path / "r.html").stat().st_size <= 3_000_000
    samples = data_of(tmp_path / "r.html")["samples"]
    assert len(samples) >= 10
    for one in samples:
        spans = one["view"]["sections"][0]["spans"]
        assert len(spans) + one["view"]["left_out"] == 300
        assert one["view"]["left_out"] > 0


def test_a_run_with_nothing_in_common_says_so(tmp_path: Path) -> None:
    """Where the run before asked other prompts."""
    for run, prompt in (("a", 0), ("b", 1)):
        decoded = decode_answers([answer_with(chat_body([chat_token("x")]), prompt_index=prompt)])
        write_run(tmp_path / "store", run, [(decoded_tables(decoded), [prompt])])
    write_report(ls.open_store(tmp_path / "store"), "b", tmp_path / "r.html")

    assert "Not compared with the run before:" in (tmp_path / "r.html").read_text()


def test_chosen_at_random_is_the_same_each_time(demo: ls.Store) -> None:
    """So that two reports of a run can be compared."""
    scores = demo.scores().collect()

    assert chosen_answers(scores, None) == chosen_answers(scores, None)


def test_the_script_is_small(demo: ls.Store, tmp_path: Path) -> None:
    """At most 150 KB, and the page runs no other: its hash is in the policy."""
    write_report(demo, "demo", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()

    script = page.partition('<script type="module">')[2].partition("</script>")[0]
    assert 1000 < len(script.encode()) <= 150_000
    assert "script-src 'sha256-" in page
    assert "import " not in script.split("function")[0]


def test_a_file_that_cannot_be_written_is_an_error(demo: ls.Store, tmp_path: Path) -> None:
    """Which names it."""
    with pytest.raises(InputError, match=r"cannot be written"):
        write_report(demo, "demo", tmp_path)
