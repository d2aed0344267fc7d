"""`store.latest`: the newest answer of each prompt over several runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from builders import write_job, write_prompts

import logprob_store as ls
from logprob_store.errors import RunNotFoundError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def nights(tmp_path: Path, fault_server: Any) -> Any:
    """Runs a job over prompts by their ids; returns the store."""

    def run(name: str, texts: dict[str, str | None], *, job: str = "job", **model: Any) -> ls.Store:
        write_prompts(tmp_path, {"id": list(texts), "text": list(texts.values()), "n": range(len(texts))})
        given = {"params": {"max_tokens": 2}, "top_logprobs": 2, **model}
        path = write_job(tmp_path, fault_server.url, name=job, prompts={"id": "id", "keep": ["n"]}, model=given)
        ls.run_job(path, run=name)
        return ls.open_store(tmp_path / "store")

    return run


def runs_of(store: ls.Store, table: str = "completions") -> dict[str, str]:
    """The run of each prompt's row."""
    return dict(getattr(store, table).select("prompt_id", "run").collect().rows())


def test_each_prompt_has_its_newest_answer(nights: Any) -> None:
    """Of a prompt that a later run lacks, the earlier answer stays."""
    nights("one", {"a": "1", "b": "2", "c": "3"})
    store = nights("two", {"b": "2", "d": "4"})

    latest = store.latest

    assert runs_of(latest) == {"a": "one", "b": "two", "c": "one", "d": "two"}
    assert latest.completions.collect().height == 4
    assert latest.run_names == ["one", "two"]


def test_all_tables_belong_together(nights: Any) -> None:
    """Tokens, alternatives, prompts, answers and scores are those of the newest answers."""
    nights("one", {"a": "1", "b": "2"})
    store = nights("two", {"b": "other"})
    latest = store.latest
    keys = set(latest.completions.select(ls.KEYS).collect().rows())

    for rows in (latest.tokens, latest.alternatives, latest.scores(), latest.answers):
        assert set(rows.select(ls.KEYS).unique().collect().rows()) == keys
    assert runs_of(latest, "prompts") == {"a": "one", "b": "two"}
    assert latest.answers.select("prompt_id", "n").sort("prompt_id").collect().rows() == [("a", 0), ("b", 0)]
    one = store.only("one")
    expected = one.scores().collect().filter(prompt_id="a").rows()
    assert latest.scores().collect().filter(prompt_id="a").rows() == expected


def test_runs_without_a_row_are_not_read(nights: Any) -> None:
    """Equal nights are one night."""
    for night in ("one", "two", "three"):
        store = nights(night, {"a": "1", "b": "2"})

    assert store.latest.run_names == ["three"]
    with pytest.raises(RunNotFoundError):
        store.latest.only("one")


def test_a_failure_does_not_hide_an_answer(nights: Any) -> None:
    """The last answer stays; failures are those of prompts that never had one, the newest of each."""
    nights("one", {"a": "1", "b": None, "c": None})
    nights("two", {"a": None, "b": "2", "c": None})
    latest = nights("three", {"d": None}).latest

    assert runs_of(latest) == {"a": "one", "b": "two"}
    assert runs_of(latest, "failures") == {"c": "two", "d": "three"}
    assert runs_of(latest, "prompts") == {"a": "one", "b": "two", "c": "two", "d": "three"}


def test_jobs_are_kept_apart(nights: Any) -> None:
    """The same id in another job is another prompt."""
    nights("one", {"a": "1"})

    assert nights("two", {"a": "1"}, job="other").latest.completions.collect()["run"].to_list() == ["one", "two"]


def test_samples_count_by_themselves(nights: Any) -> None:
    """A later run with fewer samples replaces those that it has."""
    nights("one", {"a": "1"}, samples=3)
    latest = nights("two", {"a": "1"}).latest

    rows = latest.completions.select("sample_index", "run").sort("sample_index").collect().rows()
    assert rows == [(0, "two"), (1, "one"), (2, "one")]


def test_one_run_of_the_view(nights: Any) -> None:
    """`only` keeps to the view: rows that a later run has replaced stay away."""
    nights("one", {"a": "1", "b": "2"})
    latest = nights("two", {"b": "2"}).latest

    assert runs_of(latest.only("one")) == {"a": "one"}
    assert runs_of(latest.only("one").latest) == {"a": "one"}


def test_an_empty_store_has_an_empty_view(tmp_path: Path) -> None:
    """Its tables have their columns."""
    (tmp_path / "store" / "runs").mkdir(parents=True)

    latest = ls.open_store(tmp_path / "store").latest

    assert latest.scores().collect().height == latest.failures.collect().height == 0
    assert latest.answers.collect().height == 0
