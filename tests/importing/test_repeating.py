"""Importing again adds nothing, however the files are cut, ordered or interrupted; and memory stays flat."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import logprob_store as ls
from logprob_store.importing import importer as session
from logprob_store.importing import packed_files as blocks
from logprob_store.job import override
from logprob_store.run import commit as committing
from logprob_store.store.verifying import repair_store, verify_store

if TYPE_CHECKING:
    from collections.abc import Iterator

REPO = Path(__file__).parents[2]


def everything(importing: Any, run: str = "import") -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables but the times of failures, sorted."""
    frames = importing.frames(run)
    frames["failures"] = frames["failures"].drop("first_at", "last_at")
    return {name: sorted(frame.drop("run").rows(), key=repr) for name, frame in frames.items()}


def kinds(make: Any) -> str:
    """Lines of every kind, good and bad."""
    return make.jsonl(
        make.body(0),
        make.body(1, own_id=False),
        make.body(1, own_id=False),
        "oops",
        "oops",
        make.output("a", make.body(2)),
        make.output("b", {"error": {"message": "no"}}, status=400),
        {"request": make.request(3), "response": make.body(3)},
        {"request": make.request(3), "response": make.body(4)},
        {"request": make.request(5), "response": make.body(5, own_id=False)},
        make.body(6, logprobs=False),
        make.output("c", make.body(7, logprobs=False)),
        *make.chunks(8),
    )


def test_twice_is_once(importing: Any, make: Any) -> None:
    """The second time every record is there already, and not a row changes."""
    first = importing.text(kinds(make))
    before = everything(importing)
    second = importing.text(kinds(make))

    assert (first.records, first.already, second.records, second.already) == (13, 0, 13, 13)
    assert everything(importing) == before
    assert second.failures == first.failures == 5


def test_copies_without_any_id_count_as_often_as_they_stand(importing: Any, make: Any) -> None:
    """Two equal answers that nothing tells apart are two, once a file; with an id they are one."""
    lines = [make.body(0, own_id=False)] * 2 + [make.body(1)] * 2
    one = importing.text(make.jsonl(*lines), "one.jsonl")
    other = importing.text(make.jsonl(*lines, lines[0]), "other.jsonl")

    assert (one.added, one.already) == (3, 1)
    assert (other.added, other.already) == (1, 4)


def test_equal_answers_to_different_requests(importing: Any, make: Any) -> None:
    """Two prompts may get the same answer to the last digit; in another order they are still the same two."""
    pairs = [{"request": make.request(n), "response": make.body(0, own_id=False)} for n in range(2)]
    one = importing.text(make.jsonl(*pairs), "one.jsonl")
    other = importing.text(make.jsonl(*reversed(pairs)), "other.jsonl")

    assert (one.added, other.added) == (2, 0)
    assert importing.frames()["completions"]["prompt_index"].to_list() == [0, 1]


def test_overlapping_files(importing: Any, make: Any) -> None:
    """The same answer in two files counts once, printed or not; further files add to the run."""
    one = importing.file("one.jsonl", make.jsonl(*(make.body(n) for n in (0, 1))))
    two = importing.file("two.json", json.dumps([make.body(n) for n in (1, 2)], indent=3))
    done = importing(one, two)
    more = importing(importing.file("three.jsonl", make.jsonl(*(make.body(n) for n in (2, 3)))), one)

    assert (done.added, done.already) == (3, 1)
    assert (more.added, more.already) == (1, 3)
    assert importing.texts == ["n0!", "n1!", "n2!", "n3!"]
    assert importing.frames()["completions"]["prompt_index"].to_list() == [0, 1, 2, 3]


def test_a_further_answer_in_a_later_session_is_a_further_sample(importing: Any, make: Any) -> None:
    """Samples go on counting where the run stands, so that no completion_id is given twice."""
    for number in range(3):
        importing.text(make.jsonl({"request": make.request(0), "response": make.body(number)}), f"{number}.jsonl")
    rows = importing.frames()["completions"].sort("completion_id")

    assert rows.select("prompt_index", "sample_index", "text").rows() == [(0, n, f"n{n}!") for n in range(3)]
    assert importing.frames()["prompts"].height == 1


def test_two_orders(importing: Any, make: Any) -> None:
    """The other order gives the same answers; after one order, the other adds nothing."""
    files = [importing.file(f"{n}.jsonl", make.jsonl(make.body(n), make.body(n + 1))) for n in range(4)]
    importing(*files)
    again = importing(*reversed(files))
    importing(*reversed(files), run="other")

    assert again.added == 0
    assert set(importing.texts) == set(importing.frames("other")["completions"]["text"])


def test_a_pair_is_the_response_in_it(importing: Any, make: Any) -> None:
    """A response that is known by its id is not imported again from a pair."""
    importing.text(make.jsonl(make.body(0)), "one.jsonl")
    done = importing.text(make.jsonl({"request": make.request(0), "response": make.body(0)}), "two.jsonl")

    assert (done.added, done.already) == (0, 1)


def test_batch_output_before_and_with_its_input(importing: Any, make: Any) -> None:
    """Naming the input file later does not import the output again."""
    output = importing.file("out.jsonl", make.jsonl(make.output("a", make.body(0))))
    importing(output)
    done = importing(output, importing.file("in.jsonl", make.jsonl(make.input("a", make.request(0)))))

    assert (done.added, done.already, done.failures) == (0, 1, 0)


def test_ids_do_not_depend_on_the_size_of_parts(importing: Any, make: Any) -> None:
    """In one part or in one part an answer, the rows are the same."""
    importing.text(kinds(make))
    importing.text(kinds(make), run="small", part_bytes=1)
    parts = [len(manifest.parts) for manifest in ls.open_store(importing.store).manifests]

    assert parts[1] > 8 * parts[0]
    assert everything(importing) == everything(importing, "small")


def test_an_interrupted_import_goes_on(importing: Any, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was committed before the interrupt stays, and the same command makes the same rows as one without."""
    importing.text(kinds(make), run="whole")
    left = [3]
    write_part = committing.write_part

    def write_some(*args: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        write_part(*args)

    monkeypatch.setattr(committing, "write_part", write_some)
    with pytest.raises(KeyboardInterrupt):
        importing.text(kinds(make), part_bytes=1)
    opened = ls.open_store(importing.store, runs=["import"])

    assert opened.completions.collect().height == 3
    assert opened.runs.collect()["state"].to_list() == ["interrupted"]

    monkeypatch.undo()
    importing.text(kinds(make))

    assert everything(importing) == everything(importing, "whole")


def test_what_was_read_stands_in_the_manifest(importing: Any, make: Any) -> None:
    """Each file once, with its records, size and checksum; a changed file is another."""
    importing.text(make.jsonl(make.body(0)))
    importing.text(make.jsonl(make.body(0)))
    importing.text(make.jsonl(make.body(0), make.body(1)))
    [manifest] = ls.open_store(importing.store).manifests

    assert [(read.name, read.rows) for read in manifest.inputs] == [("answers.jsonl", 1), ("answers.jsonl", 2)]
    assert manifest.job == {"import": True}
    assert manifest.prompts_read == 2


def test_what_a_part_left_behind_is_removed(importing: Any, make: Any) -> None:
    """A file of an unlisted part in `imports` goes with the next session, as in the other tables."""
    importing.text(make.jsonl(make.body(0)))
    stray = importing.store / "imports" / "run=import" / "part-00007.parquet"
    stray.write_bytes(b"")
    importing.text(make.jsonl(make.body(1)))

    assert not stray.exists()
    assert importing.frames()["imports"].height == 2


def test_a_repaired_run_gets_back_what_it_lost(importing: Any, make: Any) -> None:
    """Whatever table of a part is damaged, repair and the same import bring its answers back under ids of their own."""
    for table in ("prompts", "completions", "imports"):
        run = f"with-damaged-{table}"
        importing.text(make.jsonl(*(make.body(number) for number in range(6))), run=run, part_bytes=1)
        assert verify_store(importing.store) == []
        (importing.store / table / f"run={run}" / "part-00002.parquet").write_bytes(b"spoilt")
        repair_store(importing.store, verify_store(importing.store, runs=[run]))
        importing.text(make.jsonl(*(make.body(number) for number in range(6))), run=run)
        rows = importing.frames(run)["completions"]

        assert sorted(rows["text"]) == [f"n{number}!" for number in range(6)]
        assert rows["completion_id"].n_unique() == 6


@pytest.mark.parametrize("name", ["rich", "capitals", "capitals-chat"])
def test_fixtures_give_the_rows_of_a_replay(tmp_path: Path, name: str) -> None:
    """Importing our own fixtures gives the token rows of the run that replays them, key by key."""
    recordings = REPO / "fixtures" / f"{name}.jsonl"
    ls.import_responses(recordings, tmp_path / "imported")
    job = ls.load_job(REPO / ("jobs/demo.toml" if name == "capitals" else f"fixtures/{name}.toml"))
    ls.run_job(override(job, store=tmp_path / "replayed", transport="replay", fixtures=recordings))

    def rows(path: Path, table: str) -> pl.DataFrame:
        opened = ls.open_store(path)
        keys = opened.completions.select("completion_id", "request_key", "choice_index")
        order = ["request_key", "choice_index", "section", "position"] + ["rank"] * (table == "alternatives")
        joined = getattr(opened, table).join(keys, on="completion_id").drop("run", "completion_id")
        return joined.with_columns(pl.col("section").cast(pl.String)).sort(order).collect()

    for table in ("tokens", "alternatives"):
        imported, replayed = rows(tmp_path / "imported", table), rows(tmp_path / "replayed", table)
        assert replayed.height > 0
        assert imported.equals(replayed)


class Endless(io.RawIOBase):
    """A file of so many lines that is made while it is read; tells how far reading is ahead of committing."""

    made = 0
    committed = 0
    furthest = 0

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._left = b""

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes, counted."""
        self._left = self._left or next(self._lines, b"")
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        Endless.made += count
        Endless.furthest = max(Endless.furthest, Endless.made - Endless.committed)
        return count


def test_memory_is_flat(importing: Any, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a file is, reading is at most three parts, a block and a line ahead of what is committed."""
    part_bytes = 100_000
    pad = "x" * 5_000
    path = importing.file("endless.jsonl", make.jsonl(make.body(0)))

    def open_endless(_: Path) -> tuple[io.BufferedReader, blocks.Counted]:
        lines = (make.jsonl({**make.body(number), "pad": pad}).encode() for number in range(1500))
        stream = Endless(lines)
        counted = blocks.Counted(stream, stream.readinto, stream)
        return io.BufferedReader(counted, 10_000), counted

    write_part = committing.write_part

    def write_and_count(writer: Any, contents: Any, *rest: Any) -> None:
        write_part(writer, contents, *rest)
        Endless.committed += sum(len(answer.body) for answer in contents.answers)

    monkeypatch.setattr(session, "open_file", open_endless)
    monkeypatch.setattr(committing, "write_part", write_and_count)
    done = importing(path, part_bytes=part_bytes)

    assert (done.added, done.failures) == (1500, 0)
    assert done.size > 60 * part_bytes
    assert Endless.furthest < 3 * part_bytes + 10_000 + 4 * 6_000 + 1500  # and a line end for each line
