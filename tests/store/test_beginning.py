"""Names of new runs: each is given once, whoever asks at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from builders import open_writer

from logprob_store.store.beginning import free_names, lock_new_run

if TYPE_CHECKING:
    from pathlib import Path


def test_writers_that_begin_at_once_get_names_of_their_own(tmp_path: Path) -> None:
    """A name that another one has locked is passed over."""
    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(lambda _: lock_new_run(tmp_path, "r"), range(8)))

    for _, lock in got:
        lock.close()
    assert len({name for name, _ in got}) == 8
    assert {name.partition(".")[0] for name, _ in got} == {"r"}


def test_a_run_that_is_there_keeps_its_name(tmp_path: Path) -> None:
    """The next number is free."""
    with open_writer(tmp_path, "r"), open_writer(tmp_path, "r.2"):
        pass

    assert next(free_names(tmp_path, "r")) == "r.3"
    name, lock = lock_new_run(tmp_path, "r")
    lock.close()
    assert name == "r.3"
