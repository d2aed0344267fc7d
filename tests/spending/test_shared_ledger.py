"""The ledger that several runs share: no sum passes a ceiling, whoever writes, dies or damages it."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from builders import completions_request

from logprob_store.errors import CacheError, StopRunError
from logprob_store.spending.budget import Budget
from logprob_store.spending.ceilings import Ceilings
from logprob_store.spending.prices import Prices
from logprob_store.spending.shared_ledger import (
    LEDGER,
    Amount,
    EarlierSpent,
    SharedLedger,
    nano_usd,
    open_shared_ledger,
    read_spent,
)
from logprob_store.usage import Usage

if TYPE_CHECKING:
    from pathlib import Path

NOTHING = Amount()


def opened(folder: Path, run: str = "r", of: str = "j", *, spent: Amount = NOTHING, **ceilings: Ceilings) -> Any:
    """A run's view of the ledger in a folder, which has begun."""
    given = {"job": Ceilings(), "cache": Ceilings(), **ceilings}
    ledger = open_shared_ledger(folder, run=run, job=of, ceilings=given)
    ledger.begin(spent, {})
    return ledger


def test_runs_of_a_job_share_its_ceiling(tmp_path: Path) -> None:
    """Seven of ten calls are taken by one run and two by another; another job has a ceiling of its own."""
    most = Ceilings(requests=10)
    one, other, stranger = (
        opened(tmp_path, "r", job=most),
        opened(tmp_path, "s", job=most),
        opened(tmp_path, "t", "k", job=most),
    )

    assert one.raise_to(Amount(7), 7) is None
    assert other.raise_to(Amount(2), 2) is None
    passed = other.raise_to(Amount(4), 4)
    assert (passed.whose, passed.which, passed.ceiling, passed.taken) == ("job", "requests", 10, Amount(9))
    assert stranger.raise_to(Amount(10), 1) is None
    one.set_to(Amount(5), 0)
    assert other.raise_to(Amount(5), 5) is None
    assert read_spent(tmp_path, "j") == {"job": Amount(10), "cache": Amount(20)}


@pytest.mark.parametrize(
    ("most", "which"),
    [(Ceilings(tokens=99), "tokens"), (Ceilings(usd=0.099), "usd"), (Ceilings(requests=9), "requests")],
)
def test_jobs_share_the_ceiling_of_a_cache(tmp_path: Path, most: Ceilings, which: str) -> None:
    """Five calls of each of two jobs are one too many."""
    one, other = opened(tmp_path, "r", "j", cache=most), opened(tmp_path, "s", "k", cache=most)

    def taken(calls: int) -> Amount:
        return Amount(calls, 10 * calls, nano_usd(0.01 * calls))

    assert one.raise_to(taken(5), 5) is None
    assert other.raise_to(taken(4), 4) is None
    assert other.raise_to(taken(5), 5)[:2] == ("cache", which)


def test_what_was_under_way_at_a_death_stays(tmp_path: Path) -> None:
    """Until the run goes on and says what it has spent."""
    most = Ceilings(tokens=100)
    dead = opened(tmp_path, "r", job=most)
    dead.raise_to(Amount(3, 90), 3)
    dead.close()

    other = opened(tmp_path, "s", job=most)
    assert other.raise_to(Amount(1, 20), 1) is not None
    opened(tmp_path, "r", job=most, spent=Amount(3, 30))
    assert other.raise_to(Amount(1, 20), 1) is None


def test_earlier_runs_of_the_job_count(tmp_path: Path) -> None:
    """Those that have no entry get one, and an entry that says less is mended."""
    ledger = open_shared_ledger(tmp_path, run="r", job="j", ceilings={"job": Ceilings(tokens=100), "cache": Ceilings()})
    for spent in (Amount(2, 60, 5), Amount(3, 50, 5)):
        ledger.begin(Amount(), {"old": EarlierSpent(spent, spent)})

    assert ledger.raise_to(Amount(1, 40), 1) is None
    assert ledger.raise_to(Amount(1, 41), 1) is not None
    assert read_spent(tmp_path, "j")["job"] == Amount(4, 100, 5)


@pytest.mark.parametrize(
    ("by_record", "counted"),
    [
        # Four of nine ended with 10 tokens each. Of five, two were answered, for 10 each, and not on the disk.
        (EarlierSpent(Amount(9, 40, 40), Amount(9, 540, 540), is_whole=True, nano_usd_a_token=1), Amount(9, 460, 460)),
        # Of the three under way one was never made.
        (EarlierSpent(Amount(8, 60, 60), Amount(8, 260, 260), is_whole=True, nano_usd_a_token=1), Amount(8, 260, 260)),
        # The same, at a tenth of the price: what the 200 tokens that were not made cost now is taken off.
        (EarlierSpent(Amount(8, 60, 6), Amount(8, 260, 26), is_whole=True, nano_usd_a_token=0), Amount(8, 260, 460)),
        # A record that is damaged, or older than the calls that ended, takes nothing off.
        (EarlierSpent(Amount(8, 60, 60), Amount(8, 260, 260), nano_usd_a_token=1), Amount(9, 460, 460)),
        (EarlierSpent(Amount(4, 40, 40), Amount(4, 40, 40), is_whole=True, nano_usd_a_token=1), Amount(9, 460, 460)),
        # More calls than the entry knows: it is older.
        (
            EarlierSpent(Amount(10, 60, 60), Amount(10, 460, 500), is_whole=True, nano_usd_a_token=1),
            Amount(10, 460, 500),
        ),
    ],
)
def test_a_dead_run_counts_what_it_can_have_spent(tmp_path: Path, by_record: EarlierSpent, counted: Amount) -> None:
    """Its entry has six settled calls of 10 tokens each and three reserved ones; worst cases are of 100, and 200."""
    dead = [sys.executable, "-c", DEAD, str(tmp_path)]
    subprocess.run(dead, check=True, timeout=60)

    assert read_spent(tmp_path, "j", {"r": by_record})["job"] == counted
    open_shared_ledger(tmp_path, run="s", job="j", ceilings={"job": Ceilings(), "cache": Ceilings()}).begin(
        Amount(), {"r": by_record}
    )
    assert read_spent(tmp_path, "j")["job"] == counted


DEAD = """
import sys
from pathlib import Path
from logprob_store.spending.ceilings import Ceilings
from logprob_store.spending.shared_ledger import Amount, open_shared_ledger
ledger = open_shared_ledger(Path(sys.argv[1]), run="r", job="j", ceilings={"job": Ceilings(), "cache": Ceilings()})
ledger.begin(Amount(), {})
ledger.raise_to(Amount(9, 460, 460), 3)
"""


def test_a_run_that_lost_its_record_of_calls_counts_as_before(tmp_path: Path) -> None:
    """Nine calls of 100 tokens ended and one was under way; of all of them, the run knows the first only."""
    most = Ceilings(tokens=1100)
    dead = opened(tmp_path, "r", job=most)
    dead.raise_to(Amount(10, 1000), 1)
    dead.close()

    again = opened(tmp_path, "r", job=most, spent=Amount(1, 100))

    assert read_spent(tmp_path, "j")["job"] == Amount(10, 1000)
    assert again.raise_to(Amount(2, 200), 1) is None
    assert again.raise_to(Amount(3, 201), 1) is not None
    again.set_to(Amount(2, 150), 0)
    assert read_spent(tmp_path, "j")["job"] == Amount(11, 1050)
    again.close()
    opened(tmp_path, "r", job=most, spent=Amount(2, 150))
    assert read_spent(tmp_path, "j")["job"] == Amount(11, 1050)


def test_damage_is_an_error(tmp_path: Path) -> None:
    """Each flipped bit is found when the file is opened, and the message says what to do."""
    opened(tmp_path).close()
    path = tmp_path / LEDGER
    content = path.read_bytes()

    for bit in random.Random(1).sample(range(8 * len(content)), 100):  # noqa: S311  no secret
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(CacheError, match=r"is damaged.*Move it away"):
            opened(tmp_path)


def test_an_entry_that_was_being_added_is_left_out(tmp_path: Path) -> None:
    """Its call was not made."""
    opened(tmp_path, spent=Amount(1, 2, 3)).close()
    with (tmp_path / LEDGER).open("ab") as file:
        file.write(b"\x01" * 50)

    opened(tmp_path, "s")

    assert read_spent(tmp_path, "j")["job"] == Amount(1, 2, 3)


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_ledger_that_was_taken_away_stops_the_run(tmp_path: Path, how: str) -> None:
    """Another file in its place would know nothing of this run."""
    ledger = opened(tmp_path)
    (tmp_path / LEDGER).rename(tmp_path / "elsewhere")
    if how == "replaced":
        opened(tmp_path, "s")

    with pytest.raises(CacheError, match="was removed or replaced"):
        ledger.raise_to(Amount(1), 1)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A planted link in its place is an error, and what it points to is not written."""
    (tmp_path / "precious").write_bytes(b"x")
    (tmp_path / LEDGER).symlink_to(tmp_path / "precious")

    with pytest.raises(CacheError, match="cannot be opened"):
        opened(tmp_path)
    assert (tmp_path / "precious").read_bytes() == b"x"


PROCESS = """
import random, sys, time
from pathlib import Path
from logprob_store.spending.ceilings import Ceilings
from logprob_store.spending.shared_ledger import Amount, open_shared_ledger
folder, name = Path(sys.argv[1]), sys.argv[2]
chance = random.Random()
spent = (folder / name).stat().st_size if (folder / name).exists() else 0
most = {"job": Ceilings(requests=400), "cache": Ceilings()}
ledger = open_shared_ledger(folder, run=name, job="j", ceilings=most)
ledger.begin(Amount(spent), {})
print("began", flush=True)
with (folder / name).open("ab", buffering=0) as billed:
    while ledger.raise_to(Amount(spent + 3), 3) is None:
        for _ in range(chance.randrange(4)):
            billed.write(b"x")
            spent += 1
            time.sleep(0.001)
        ledger.set_to(Amount(spent), 0)
"""
"""A run that makes up to three calls at once, each a byte of a file, until three more could pass the ceiling."""


def test_eight_processes_and_kills_pass_no_ceiling(tmp_path: Path) -> None:
    """Each reserves three calls and makes up to three; some are killed and begin again; 400 are never passed."""
    names = [f"run{number}" for number in range(8)]

    def start(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", PROCESS, tmp_path, name], stdout=subprocess.PIPE)

    def billed() -> int:
        return sum((tmp_path / name).stat().st_size for name in names if (tmp_path / name).exists())

    processes = {name: start(name) for name in names}
    for name in names[:3]:
        stdout = processes[name].stdout
        assert stdout is not None
        stdout.readline()
        time.sleep(0.005)
        processes[name].send_signal(signal.SIGKILL)
        processes[name].communicate()
        processes[name] = start(name)
    for process in processes.values():
        process.communicate(timeout=60)

    assert 400 - 3 * 8 <= billed() <= 400
    assert read_spent(tmp_path, "j")["job"].requests == billed()


# with budgets


def budget_of(ledger: SharedLedger, **options: Any) -> Budget:
    """A budget without a ceiling of its own."""
    return Budget(prices=Prices(1, 15), shared=ledger, **options)


async def spend(budget: Budget, calls: int, *, seconds: float = 0.0) -> StopRunError | None:
    """Make calls of 43 + 10 tokens at most, which take 20 + 5; returns the error that stops them."""
    for _ in range(calls):
        try:
            with await budget.reserve(completions_request("Hi", max_tokens=10)) as reservation:
                reservation.begin()
                await asyncio.sleep(seconds)
                reservation.answered(Usage(20, 0, 5))
        except StopRunError as error:
            return error
    return None


def test_budgets_of_two_runs_never_pass_the_jobs_ceiling(tmp_path: Path) -> None:
    """A call that does not fit beside those of another run waits for them, and both stop at the ceiling."""
    most = Ceilings(tokens=1000)

    async def main() -> tuple[int, list[Any]]:
        budgets = [budget_of(opened(tmp_path, name, job=most)) for name in "rs"]
        ends = await asyncio.gather(*(spend(budget, 9, seconds=0.01) for budget in budgets for _ in range(8)))
        return sum(budget.usage.total for budget in budgets), ends

    spent, ends = asyncio.run(main())

    # 25 tokens a call, and the next one needs 53
    assert 1000 - 53 < spent <= 1000
    error = next(end for end in ends if end is not None)
    assert str(error).startswith("limits.job_max_tokens = 1000 allows no further call: ")
    assert "tokens are spent in all runs of this job, and the next call could take 53. Raise it" in str(error)


def test_calls_of_a_run_that_does_not_end_are_not_waited_for_for_ever(tmp_path: Path) -> None:
    """Another run has calls under way and none settles: after the patience the run stops."""
    most = Ceilings(requests=3)

    async def main() -> StopRunError | None:
        stuck = opened(tmp_path, "stuck", job=most)
        stuck.raise_to(Amount(3), 3)
        async with asyncio.timeout(5):
            return await spend(budget_of(opened(tmp_path, "r", job=most), patience_s=0.3), 1)

    assert "limits.job_max_requests = 3 allows no further call: 3 calls" in str(asyncio.run(main()))


def test_an_answer_is_not_lost_to_a_ledger_that_was_taken_away(tmp_path: Path) -> None:
    """The call settles, and no further one starts."""

    async def main() -> tuple[StopRunError | None, StopRunError | None, int]:
        budget = budget_of(opened(tmp_path, job=Ceilings(requests=9)))
        reservation = await budget.reserve(completions_request("Hi", max_tokens=10))
        reservation.begin()
        (tmp_path / LEDGER).unlink()
        reservation.answered(Usage(20, 0, 5))
        return budget.closed, await spend(budget, 1), budget.usage.total

    closed, error, spent = asyncio.run(main())

    assert closed is error is not None
    assert "was removed or replaced" in str(error)
    assert spent == 25
