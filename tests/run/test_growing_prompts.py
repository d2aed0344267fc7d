"""Prompts files to which rows are added: the run goes on with these, if all that it has read is as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from builders import write_job, write_prompts

import logprob_store as ls
from logprob_store.errors import PromptsError, RunChangedError
from logprob_store.store.manifest import manifest_path, read_manifest, write_manifest
from logprob_store.store.verifying import verify_store

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.run.api import RunSummary


def run(folder: Path, url: str, **prompts: Any) -> RunSummary:
    """The run `r` of a job over the prompts of a folder."""
    section = {"id": "id", "keep": ["n"], "path": "in", **prompts}
    job = write_job(folder, url, prompts=section, model={"params": {"max_tokens": 2}}, cache={"mode": "off"})
    return ls.run_job(job, run="r")


def rows(*numbers: int, text: str = "") -> dict[str, Any]:
    """The columns of rows with these numbers."""
    return {"id": [f"p{n}" for n in numbers], "text": [f"{text}{n}" for n in numbers], "n": list(numbers)}


@pytest.fixture
def night(tmp_path: Path, fault_server: Any) -> Any:
    """A first night: two files with three rows, all asked; `again` runs the job again."""
    (tmp_path / "in").mkdir()
    write_prompts(tmp_path / "in", rows(0, 1), "a.parquet")
    write_prompts(tmp_path / "in", rows(2), "b.parquet")
    assert run(tmp_path, fault_server.url).completions == 3

    class Night:
        folder = tmp_path / "in"
        store = tmp_path / "store"

        @staticmethod
        def again(**prompts: Any) -> RunSummary:
            return run(tmp_path, fault_server.url, **prompts)

    return Night


def differences(night: Any, **prompts: Any) -> list[str]:
    """What the error says that changed."""
    with pytest.raises(RunChangedError) as caught:
        night.again(**prompts)
    return caught.value.differences


def test_rows_at_the_end_are_asked(night: Any) -> None:
    """The last file was written anew with two more rows: those are asked, and no other."""
    write_prompts(night.folder, rows(2, 3, 4), "b.parquet")

    summary = night.again()

    assert (summary.state, summary.total, summary.already, summary.calls) == ("finished", 5, 3, 2)
    store = ls.open_store(night.store)
    assert store.prompts.collect()["n"].to_list() == [0, 1, 2, 3, 4]
    assert store.completions.collect()["prompt_id"].sort().to_list() == ["p0", "p1", "p2", "p3", "p4"]
    assert verify_store(night.store) == []
    assert night.again().calls == 0


def test_a_new_last_file_is_asked(night: Any) -> None:
    """A folder to which each day adds a file."""
    write_prompts(night.folder, rows(3), "c.parquet")

    assert (night.again().calls, night.again().calls) == (1, 0)


def test_the_same_rows_in_other_bytes_are_the_same(night: Any) -> None:
    """Another tool has written the file, with a column more that the job does not read."""
    pl.DataFrame({**rows(0, 1), "more": [1, 2]}).write_parquet(night.folder / "a.parquet", compression="lz4")

    assert night.again().calls == 0


def test_a_grown_run_grows_again(night: Any) -> None:
    """Each night is held against the last one."""
    for last in (3, 4, 5):
        write_prompts(night.folder, rows(*range(2, last + 1)), "b.parquet")
        assert night.again().calls == 1

    write_prompts(night.folder, rows(2, 3), "b.parquet")
    assert differences(night) == ["prompts file b.parquet has other content (2 rows, was 4)"]


@pytest.mark.parametrize("where", ["text", "id", "n"])
def test_an_edited_row_is_found_beside_new_ones(night: Any, where: str) -> None:
    """In any column that the job reads."""
    columns = rows(2, 3)
    columns[where][0] = {"text": "other", "id": "other", "n": 9}[where]
    write_prompts(night.folder, columns, "b.parquet")

    (difference,) = differences(night)
    assert difference.startswith("prompts file b.parquet has other content (2 rows, was 1, of which some are not the")


def test_rows_in_the_middle_are_refused(night: Any) -> None:
    """More rows in a file before the last one, or a file between others, would move the rows behind them."""
    write_prompts(night.folder, rows(0, 1, 5), "a.parquet")
    assert differences(night)[0].startswith("prompts file a.parquet has other content (3 rows, was 2, ")

    write_prompts(night.folder, rows(0, 1), "a.parquet")
    write_prompts(night.folder, rows(5), "aa.parquet")
    assert differences(night) == ["prompts file aa.parquet is new"]


def test_a_column_of_another_type_is_refused(night: Any) -> None:
    """The rows of one run have one schema: a file of floats would change that of all files."""
    write_prompts(night.folder, {**rows(3), "n": [0.5]}, "c.parquet")

    assert differences(night) == ["column n is double, was int64"]


def test_a_repeated_id_is_found_among_new_rows(night: Any) -> None:
    """The check covers old and new rows together."""
    write_prompts(night.folder, rows(2, 0), "b.parquet")

    with pytest.raises(PromptsError, match=r"'p0' in rows 0, 3"):
        night.again()


def test_a_run_of_an_older_version_cannot_grow(night: Any) -> None:
    """Its manifest has no digest of its rows: nothing proves that they are unchanged."""
    path = manifest_path(night.store, "r")
    manifest = read_manifest(path)
    for item in manifest.inputs:
        item.rows_digest = ""
    write_manifest(path, manifest)
    assert night.again().calls == 0
    write_prompts(night.folder, rows(2, 3), "b.parquet")

    assert differences(night) == ["prompts file b.parquet has other content (2 rows, was 1)"]


def test_lines_added_to_csv_are_asked(tmp_path: Path, fault_server: Any) -> None:
    """Text grows as Parquet does."""
    for lines, asked in (("1,a,1\n", 1), ("1,a,1\n2,b,2\n", 1), ("1,a,1\n2,b,2\n", 0)):
        (tmp_path / "p.csv").write_text(f"id,text,n\n{lines}", encoding="utf-8")
        assert run(tmp_path, fault_server.url, path="p.csv").calls == asked


def test_continuations_keep_their_numbers(tmp_path: Path, fault_server: Any) -> None:
    """A call's number depends on the most continuations of a prompt: a new row with more of them is refused."""
    model = {"mode": "score", "endpoint": "completions"}
    job = write_job(tmp_path, fault_server.url, prompts={"continuations": "ends"}, model=model)
    ends = [["x", "y"], ["x"], ["x", "y", "z"]]
    for count in (1, 2):
        write_prompts(tmp_path, {"text": ["a", "b"][:count], "ends": ends[:count]})
        ls.run_job(job, run="r")
    write_prompts(tmp_path, {"text": ["a", "b", "c"], "ends": ends})

    with pytest.raises(RunChangedError) as caught:
        ls.run_job(job, run="r")

    assert caught.value.differences == ["a prompt has up to 3 continuations, had up to 2"]
    assert verify_store(tmp_path / "store") == []
