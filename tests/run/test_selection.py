"""Which calls a run passes over: `select` against what earlier runs of the store have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from builders import write_job, write_prompts

import logprob_store as ls
from logprob_store.errors import JobError, RunChangedError, StoreError
from logprob_store.job import override
from logprob_store.run.dry_run import dry_run
from logprob_store.run.selection import Hashes, _words_of_keys
from logprob_store.store.manifest import manifest_path, read_manifest
from logprob_store.store.removal import remove_run
from logprob_store.store.repair import repair_store
from logprob_store.store.verifying import verify_store

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.job import Job
    from logprob_store.run.api import RunSummary


@dataclass
class Nights:
    """Runs of one job over prompts that change from night to night."""

    folder: Path
    url: str

    def job(self, select: str, texts: dict[str, str | None], **sections: Any) -> Job:
        """The job over prompts by their ids."""
        write_prompts(self.folder, {"id": list(texts), "text": list(texts.values())})
        model = {"params": {"max_tokens": 2}, **sections.pop("model", {})}
        path = write_job(self.folder, self.url, prompts={"id": "id"}, model=model, cache={"mode": "off"}, **sections)
        return override(ls.load_job(path), select=select)

    def run(self, run: str, select: str, texts: dict[str, str | None], **sections: Any) -> RunSummary:
        """Run it under a name."""
        return ls.run_job(self.job(select, texts, **sections), run=run)

    def asked(self, run: str) -> list[str]:
        """The ids of the prompts that have an answer or a failure in a run."""
        store = ls.open_store(self.folder / "store", runs=[run])
        return sorted({*store.completions.collect()["prompt_id"], *store.failures.collect()["prompt_id"]})

    @property
    def store(self) -> Path:
        """The store's folder."""
        return self.folder / "store"


@pytest.fixture
def nights(tmp_path: Path, fault_server: Any) -> Nights:
    """A store with one night, of the prompts a and b, and c that could not be asked."""
    nights = Nights(tmp_path, fault_server.url)
    nights.run("first", "all", {"a": "1", "b": "2", "c": None})
    return nights


def test_new_prompts_are_asked_alone(nights: Nights) -> None:
    """What has an answer in an earlier run is passed over, with its row of prompts; what failed there is asked."""
    summary = nights.run("second", "new", {"a": "1", "b": "2", "c": "3", "d": "4"})

    assert nights.asked("second") == ["c", "d"]
    assert (summary.state, summary.total, summary.calls, summary.passed_over) == ("finished", 2, 2, {"answered": 2})
    prompts = ls.open_store(nights.store, runs=["second"]).prompts.collect()
    assert prompts.select("prompt_id", "prompt_index").rows() == [("c", 2), ("d", 3)]
    assert verify_store(nights.store) == []


def test_an_edited_request_is_new(nights: Nights) -> None:
    """The request's key tells, not the id: another text or another parameter is another request."""
    nights.run("second", "new", {"a": "other", "b": "2"})
    nights.run("third", "new", {"a": "other", "b": "2"}, model={"params": {"max_tokens": 3}})

    assert (nights.asked("second"), nights.asked("third")) == (["a"], ["a", "b"])


def test_more_samples_are_new(nights: Nights) -> None:
    """Each sample is a request of its own."""
    assert nights.run("second", "new", {"a": "1", "b": "2"}, model={"samples": 3}).calls == 4


def test_changed_prompts_are_asked_alone(nights: Nights) -> None:
    """Known by their id, with another request than any that was answered."""
    summary = nights.run("second", "changed", {"a": "other", "b": "2", "c": "3", "d": "4"})

    assert nights.asked("second") == ["a"]
    assert summary.passed_over == {"answered": 1, "unknown": 2}


def test_failed_prompts_are_asked_alone(nights: Nights) -> None:
    """The last outcome counts, whatever the request is now."""
    texts = {"a": "1", "b": "2", "c": "3", "d": "4"}
    summary = nights.run("second", "failed", texts)

    assert nights.asked("second") == ["c"]
    assert summary.passed_over == {"answered": 2, "unknown": 1}
    assert nights.run("third", "failed", texts).calls == 0
    nights.run("fourth", "all", {**texts, "a": None})
    nights.run("fifth", "failed", texts)
    assert nights.asked("fifth") == ["a"]


@pytest.mark.parametrize("select", ["changed", "failed"])
def test_ids_are_those_of_the_job(nights: Nights, select: str) -> None:
    """Another job in the store may use the same ids for other prompts."""
    summary = nights.run("second", select, {"a": "other", "c": "3"}, name="other")

    assert (summary.calls, summary.passed_over) == (0, {"unknown": 2})


def test_a_run_goes_on_with_what_it_chose(nights: Nights) -> None:
    """A session that ends early is continued; runs that began later change nothing."""
    texts = {letter: letter for letter in "abcdefgh"}
    job = nights.job("new", {**texts, "a": "1", "b": "2"})
    ls.run_job(job, run="second", limit=4)
    nights.run("later", "all", texts)

    summary = ls.run_job(nights.job("new", {**texts, "a": "1", "b": "2"}), run="second")

    assert nights.asked("second") == list("cdefgh")
    assert (summary.total, summary.already, summary.passed_over) == (6, 2, {"answered": 2})
    assert ls.run_job(job, run="second").calls == 0
    assert verify_store(nights.store) == []


def test_nothing_new_is_a_finished_run(nights: Nights) -> None:
    """It has no rows, and is intact."""
    summary = nights.run("second", "new", {"a": "1", "b": "2"})

    assert (summary.state, summary.total, summary.passed_over) == ("finished", 0, {"answered": 2})
    assert ls.open_store(nights.store, runs=["second"]).prompts.collect().height == 0
    assert verify_store(nights.store) == []
    assert nights.run("second", "new", {"a": "1", "b": "2"}).passed_over == {"answered": 2}


def test_the_first_run_asks_all(tmp_path: Path, fault_server: Any) -> None:
    """There is no earlier run."""
    assert Nights(tmp_path, fault_server.url).run("first", "new", {"a": "1"}).calls == 1


def test_another_selection_is_another_job(nights: Nights) -> None:
    """A run is not continued with other calls than it chose."""
    nights.run("second", "new", {"a": "1", "z": "26"})

    with pytest.raises(RunChangedError) as caught:
        nights.run("second", "all", {"a": "1", "z": "26"})

    assert caught.value.differences == ["prompts.select is None, was 'new'"]


@pytest.mark.parametrize("select", ["changed", "failed"])
def test_ids_are_needed(tmp_path: Path, select: str) -> None:
    """A row's index is no identity from night to night."""
    job = write_job(tmp_path, "http://127.0.0.1:9/v1", prompts={"select": select})

    with pytest.raises(JobError, match=f'select = "{select}" needs id'):
        ls.load_job(job)


def test_a_dry_run_says_what_is_passed_over(nights: Nights) -> None:
    """Before the run, and after it."""
    job = nights.job("new", {"a": "1", "b": "2", "d": "4"})
    before = dry_run(job, run="second")
    ls.run_job(job, run="second")
    after = dry_run(job, run="second")

    assert (before.calls, before.settled, before.to_ask, before.passed_over) == (1, 0, 1, {"answered": 2})
    assert (after.calls, after.settled, after.to_ask, after.passed_over) == (1, 1, 0, {"answered": 2})
    assert before.sentence.splitlines()[1] == "passed over: 2 answered in an earlier run"


def test_the_command_line_selects(nights: Nights, logprobs: Any) -> None:
    """`--select` goes before the job file, and the summary says what was passed over."""
    nights.job("all", {"a": "1", "b": "2", "d": "4"})

    done = logprobs("run", nights.folder / "job.toml", "--run", "second", "--select", "new")

    assert "1 answer wanted: 1 from the server" in done.out
    assert "passed over: 2 answered in an earlier run" in done.out


def test_a_damaged_earlier_run_is_named(nights: Nights) -> None:
    """Whether something is new cannot be told: nothing is asked."""
    part = nights.store / "completions" / "run=first" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:100])

    with pytest.raises(StoreError, match=r"part-00000.parquet cannot be read.*`logprobs verify"):
        nights.run("second", "new", {"d": "4"})


def test_repair_keeps_what_was_passed_over(nights: Nights) -> None:
    """A damaged part of a run that passed prompts over is filled in, and nothing else."""
    texts = {"a": "1", "b": "2", "c": "3", "d": "4"}
    nights.run("second", "new", texts)
    part = nights.store / "prompts" / "run=second" / "part-00000.parquet"
    part.write_bytes(b"damaged")
    repair_store(nights.store, verify_store(nights.store))
    assert verify_store(nights.store) == []

    summary = nights.run("second", "new", texts)

    assert (summary.calls, summary.passed_over) == (0, {"answered": 2})
    assert nights.asked("second") == ["c", "d"]
    assert ls.open_store(nights.store, runs=["second"]).prompts.collect()["prompt_id"].to_list() == ["c", "d"]
    assert verify_store(nights.store) == []


def test_removing_a_run_makes_its_prompts_new(nights: Nights) -> None:
    """Only what is in the store counts."""
    remove_run(nights.store, "first")

    assert nights.run("second", "new", {"a": "1", "b": "2"}).calls == 2


def test_manifests_without_selection_are_as_before(nights: Nights) -> None:
    """The job's identity lacks `select` where all are asked, so that older runs can be continued."""
    assert "prompts.select" not in read_manifest(manifest_path(nights.store, "first")).job


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_keys_are_read_from_any_slice(kind: pa.DataType) -> None:
    """Nulls and what is no key are left out, wherever the slice begins."""
    keys = pa.array(["f" * 64, "0" * 15 + "1" + "0" * 15 + "2" + "3" * 32, None, "short", "f" * 64], kind)

    assert _words_of_keys(keys.slice(1)).tolist() == [[1, 2], [2**64 - 1] * 2]
    assert _words_of_keys(keys.slice(1, 1)).tolist() == [[1, 2]]
    assert _words_of_keys(keys.slice(2, 2)).tolist() == []


def test_hashes_are_compared_by_both_words() -> None:
    """Two calls alike have one place; those with the first word alone in common are not found."""
    words = [np.array(values, np.uint64) for values in ([5, 3, 5, 5], [1, 2, 1, 9])]
    hashes = Hashes(*words)

    found = np.zeros(hashes.different, np.uint8)
    found[hashes.find(np.array([5, 3, 7], np.uint64), np.array([1, 9, 2], np.uint64))] = 1

    assert hashes.of_each(found).tolist() == [1, 0, 1, 0]
