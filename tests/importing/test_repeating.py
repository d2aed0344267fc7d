"""Importing again adds nothing, however files are split, ordered or interrupted, and memory stays flat."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from builders import chat_body, chat_token, open_writer
from importing.recorded import input_line, jsonl, output_line, recorded_body, recorded_chunks, recorded_request

import logprob_store as ls
from logprob_store.importing.body_identity import BodyIdentity
from logprob_store.importing.importer import Importer
from logprob_store.importing.known_requests import BatchRequests
from logprob_store.importing.packed_files import CountingStream
from logprob_store.job import override
from logprob_store.run.parts import Committer, write_part
from logprob_store.schema import SAMPLES_PER_PROMPT
from logprob_store.store.repair import repair_store
from logprob_store.store.verifying import verify_store

if TYPE_CHECKING:
    from collections.abc import Iterator

REPO = Path(__file__).parents[2]


def everything(importing: Any, run: str = "import") -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables but the times of failures, sorted."""
    frames = importing.frames(run)
    frames["failures"] = frames["failures"].drop("first_at", "last_at")
    return {name: sorted(frame.drop("run").rows(), key=repr) for name, frame in frames.items()}


def kinds() -> str:
    """Lines of every kind, good and bad."""
    return jsonl(
        recorded_body(0),
        recorded_body(1, own_id=False),
        recorded_body(1, own_id=False),
        "oops",
        "oops",
        output_line("a", recorded_body(2)),
        output_line("b", {"error": {"message": "no"}}, status=400),
        {"request": recorded_request(3), "response": recorded_body(3)},
        {"request": recorded_request(3), "response": recorded_body(4)},
        {"request": recorded_request(5), "response": recorded_body(5, own_id=False)},
        recorded_body(6, logprobs=False),
        output_line("c", recorded_body(7, logprobs=False)),
        *recorded_chunks(8),
    )


def test_twice_is_once(importing: Any) -> None:
    """The second import finds every record in the run and changes no row."""
    first = importing.content(kinds())
    before = everything(importing)
    second = importing.content(kinds())

    assert (first.records, first.already, second.records, second.already) == (13, 0, 13, 13)
    assert everything(importing) == before
    assert second.failures == first.failures == 5


def test_copies_without_any_id_count_as_often_as_they_occur(importing: Any) -> None:
    """Two equal answers without ids in one file are two; with an id they are one."""
    lines = [recorded_body(0, own_id=False)] * 2 + [recorded_body(1)] * 2
    one = importing.lines(*lines, name="one.jsonl")
    other = importing.lines(*lines, lines[0], name="other.jsonl")

    assert (one.added, one.already) == (3, 1)
    assert (other.added, other.already) == (1, 4)


def test_equal_answers_to_different_requests(importing: Any) -> None:
    """Two prompts may get answers equal to the last digit; in another order they are the same two records."""
    pairs = [{"request": recorded_request(n), "response": recorded_body(0, own_id=False)} for n in range(2)]
    one = importing.lines(*pairs, name="one.jsonl")
    other = importing.lines(*reversed(pairs), name="other.jsonl")

    assert (one.added, other.added) == (2, 0)
    assert importing.frames()["completions"]["prompt_index"].to_list() == [0, 1]


def test_overlapping_files(importing: Any) -> None:
    """The same answer in two files counts once, whatever its white space; further files add to the run."""
    one = importing.jsonl("one.jsonl", *(recorded_body(n) for n in (0, 1)))
    two = importing.file("two.json", json.dumps([recorded_body(n) for n in (1, 2)], indent=3))
    done = importing(one, two)
    more = importing(importing.jsonl("three.jsonl", *(recorded_body(n) for n in (2, 3))), one)

    assert (done.added, done.already) == (3, 1)
    assert (more.added, more.already) == (1, 3)
    assert importing.texts == ["n0!", "n1!", "n2!", "n3!"]
    assert importing.frames()["completions"]["prompt_index"].to_list() == [0, 1, 2, 3]


def test_a_further_answer_in_a_later_session_is_a_further_sample(importing: Any) -> None:
    """The sample index counts on from the run, so that no completion_id is given twice."""
    for number in range(3):
        importing.lines({"request": recorded_request(0), "response": recorded_body(number)}, name=f"{number}.jsonl")
    rows = importing.frames()["completions"].sort("completion_id")

    assert rows.select("prompt_index", "sample_index", "text").rows() == [(0, n, f"n{n}!") for n in range(3)]
    assert importing.frames()["prompts"].height == 1


def test_the_order_of_files_does_not_matter(importing: Any) -> None:
    """Either order gives the same answers, and after one order the other adds nothing."""
    files = [importing.jsonl(f"{n}.jsonl", recorded_body(n), recorded_body(n + 1)) for n in range(4)]
    importing(*files)
    again = importing(*reversed(files))
    importing(*reversed(files), run="other")

    assert again.added == 0
    assert set(importing.texts) == set(importing.frames("other")["completions"]["text"])


def test_a_pair_counts_as_its_response(importing: Any) -> None:
    """A response that the run has is not imported again from a pair."""
    importing.lines(recorded_body(0), name="one.jsonl")
    done = importing.lines({"request": recorded_request(0), "response": recorded_body(0)}, name="two.jsonl")

    assert (done.added, done.already) == (0, 1)


def test_batch_output_before_and_with_its_input(importing: Any) -> None:
    """Naming the input file later does not import the output again."""
    output = importing.jsonl("out.jsonl", output_line("a", recorded_body(0)))
    importing(output)
    done = importing(output, importing.jsonl("in.jsonl", input_line("a", recorded_request(0))))

    assert (done.added, done.already, done.failures) == (0, 1, 0)


def test_ids_do_not_depend_on_the_size_of_parts(importing: Any) -> None:
    """The rows are the same in one part and in a part for each answer."""
    importing.content(kinds())
    importing.content(kinds(), run="small", part_bytes=1)
    parts = [len(manifest.parts) for manifest in ls.open_store(importing.store).manifests]

    assert parts[1] > 8 * parts[0]
    assert everything(importing) == everything(importing, "small")


def test_an_interrupted_import_goes_on(importing: Any) -> None:
    """Parts committed before an interrupt stay, and the same command completes the rows."""
    importing.content(kinds(), run="whole")
    total = everything(importing, "whole")
    reports = itertools.count(1)

    def interrupt(_: Any) -> None:
        if next(reports) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        importing.content(kinds(), part_bytes=1, on_progress=interrupt)
    opened = ls.open_store(importing.store, runs=["import"])

    assert 3 <= opened.completions.collect().height < len(total["completions"])
    assert opened.runs.collect()["state"].to_list() == ["interrupted"]

    importing.content(kinds())

    assert everything(importing) == total


def test_the_manifest_lists_what_was_read(importing: Any) -> None:
    """Each file is listed once, with its records, size and checksum; a changed file is listed again."""
    importing.lines(recorded_body(0))
    importing.lines(recorded_body(0))
    importing.lines(recorded_body(0), recorded_body(1))
    [manifest] = ls.open_store(importing.store).manifests

    assert [(read.name, read.rows) for read in manifest.inputs] == [("answers.jsonl", 1), ("answers.jsonl", 2)]
    assert manifest.job == {"import": True}
    assert manifest.prompts_read == 2


def test_files_of_an_unlisted_part_are_removed(importing: Any) -> None:
    """The next import removes a file of an unlisted part from `imports`, as from the other tables."""
    importing.lines(recorded_body(0))
    stray = importing.store / "imports" / "run=import" / "part-00007.parquet"
    stray.write_bytes(b"")
    importing.lines(recorded_body(1))

    assert not stray.exists()
    assert importing.frames()["imports"].height == 2


def test_a_repaired_run_gets_back_what_it_lost(importing: Any) -> None:
    """Whichever table of a part is damaged, repair and the same import restore its answers under new, unique ids."""
    for table in ("prompts", "completions", "imports"):
        run = f"with-damaged-{table}"
        importing.lines(*(recorded_body(number) for number in range(6)), run=run, part_bytes=1)
        assert verify_store(importing.store) == []
        (importing.store / table / f"run={run}" / "part-00002.parquet").write_bytes(b"spoilt")
        repair_store(importing.store, verify_store(importing.store, runs=[run]))
        importing.lines(*(recorded_body(number) for number in range(6)), run=run)
        rows = importing.frames(run)["completions"]

        assert sorted(rows["text"]) == [f"n{number}!" for number in range(6)]
        assert rows["completion_id"].n_unique() == 6


@pytest.mark.parametrize("name", ["rich", "capitals", "capitals-chat"])
def test_fixtures_give_the_rows_of_a_replay(tmp_path: Path, name: str) -> None:
    """Importing fixtures gives the token rows of a run that replays them, for each request key."""
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


class EndlessSource(io.RawIOBase):
    """A file whose lines are made while they are read; notes how far reading is ahead of committing, in bytes."""

    name = "endless.jsonl"

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._left = b""
        self._made = 0
        self.committed = 0
        self.furthest_ahead = 0

    def open(self) -> tuple[io.BufferedReader, CountingStream]:
        """Open it, as `Source.open`."""
        counting = CountingStream(self, self.readinto, self)
        return io.BufferedReader(counting, 10_000), counting

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes, counted."""
        self._left = self._left or next(self._lines, b"")
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        self._made += count
        self.furthest_ahead = max(self.furthest_ahead, self._made - self.committed)
        return count


@pytest.mark.slow
def test_memory_is_flat(importing: Any) -> None:
    """However long a file is, reading is at most three parts, a block and a line ahead of what is committed."""
    part_bytes = 100_000
    pad = "x" * 5_000
    source = EndlessSource(jsonl({**recorded_body(number), "pad": pad}).encode() for number in range(1500))

    def write_and_count(writer: Any, contents: Any, *rest: Any) -> None:
        write_part(writer, contents, *rest)
        source.committed += sum(len(answer.body) for answer in contents.answers)

    run = {"job_name": "import", "job": {"import": True}, "samples": SAMPLES_PER_PROMPT, "grows": True}
    with contextlib.closing(BatchRequests()) as requests, open_writer(importing.store, "import", **run) as writer:
        importer = Importer(writer, requests, "import", part_bytes, None)
        importer._committer = Committer(writer, write=write_and_count)
        importer.run([source], ())
    done = importer.summary

    assert (done.added, done.failures) == (1500, 0)
    assert done.size > 60 * part_bytes
    assert source.furthest_ahead < 3 * part_bytes + 10_000 + 4 * 6_000 + 1500  # and a line end for each line


@pytest.mark.parametrize("first", [0, 1, 2, 3, 4, 5])
def test_one_answer_in_several_spellings_is_one(tmp_path: Path, first: int) -> None:
    """With and without nulls, spaces, escapes and `.0`, keys in any order; another logprob is another answer."""
    tokens = [chat_token("é/🙂", -0.5), chat_token("1.0,", -0.0)]
    body = chat_body(tokens, "é/🙂1.0,") | {"id": "chatcmpl-1", "service_tier": None}
    without = {name: value for name, value in body.items() if value is not None}
    spellings = [
        json.dumps(body),
        json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        json.dumps(without),
        json.dumps(without).replace("/", "\\/"),
        json.dumps(body, sort_keys=True),
        json.dumps(without).replace("-0.0,", "0,"),
    ]
    other = json.dumps(chat_body([chat_token("é/🙂", -0.25), tokens[1]], "é/🙂1.0,") | {"id": "chatcmpl-1"})
    lines = [spellings[first], *spellings, other]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

    summary = ls.import_responses([tmp_path / "a.jsonl"], tmp_path / "store")

    assert (summary.added, summary.already) == (2, 6)


def test_the_order_of_keys_in_events_makes_no_difference(tmp_path: Path) -> None:
    """A stream whose events were written again with sorted keys is the same answer."""
    chunks = [chunk for chunk in recorded_chunks(1) if isinstance(chunk, dict)]
    for name, is_sorted in (("a.txt", False), ("b.txt", True)):
        events = [f"data: {json.dumps(chunk, sort_keys=is_sorted)}\n\n" for chunk in chunks]
        (tmp_path / name).write_text("".join(events) + "data: [DONE]\n\n", encoding="utf-8")
    ls.import_responses([tmp_path / "a.txt"], tmp_path / "store")

    assert ls.import_responses([tmp_path / "b.txt"], tmp_path / "store").already == 1


def test_the_order_of_keys_beside_nan_makes_no_difference(tmp_path: Path) -> None:
    """Python writes NaN, which is no JSON, and sorts its keys if asked."""
    body = chat_body([chat_token("a", float("nan"))], "a") | {"id": "chatcmpl-1"}
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(body)}\n{json.dumps(body, sort_keys=True)}\n", encoding="utf-8")

    assert ls.import_responses([tmp_path / "a.jsonl"], tmp_path / "store").already == 1


@pytest.mark.parametrize("own_id", [{"id": "chatcmpl-1"}, {}])
@pytest.mark.parametrize("older", [0, 1])
def test_answers_of_an_older_version_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, older: int, own_id: dict[str, str]
) -> None:
    """It kept digests in which spellings differ; importing the same file again adds nothing, in any order of keys."""
    body = chat_body([chat_token("é", -0.5)], "é") | {"service_tier": None}
    body.pop("id", None)
    lines = [json.dumps(body | own_id), json.dumps(body | own_id, sort_keys=True)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(BodyIdentity, "canonical", property(lambda self: self.older[older]))
        made = ls.import_responses([tmp_path / "a.jsonl"], tmp_path / "store")

    again = ls.import_responses([tmp_path / "a.jsonl"], tmp_path / "store")

    assert (made.added, again.added, again.already) == (2, 0, 2)
