"""The memory settings of a run, and that they are put back."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from logprob_store.run.memory_settings import set_up_for_a_run

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_it_is_put_back() -> None:
    """The settings are put back, also when the run ends with an error."""
    gc.set_threshold(700, 10, 10)
    pool = pa.default_memory_pool().backend_name

    def run() -> None:
        with set_up_for_a_run():
            assert gc.get_threshold()[0] > 10_000
            assert pa.default_memory_pool().backend_name == "system"
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run()

    assert gc.get_threshold() == (700, 10, 10)
    assert pa.default_memory_pool().backend_name == pool


@pytest.mark.parametrize("chosen", [0, 1_000_000])
def test_what_the_user_has_chosen_stays(chosen: int) -> None:
    """A disabled collector, or a higher threshold, stays."""
    gc.set_threshold(chosen, 10, 10)
    with set_up_for_a_run():
        assert gc.get_threshold() == (chosen, 10, 10)
