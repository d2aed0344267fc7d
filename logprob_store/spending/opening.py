"""Opening a budget: with the ledger that several runs share, where these have ceilings together."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from logprob_store.spending.budget import Budget
from logprob_store.spending.shared_ledger import open_shared_ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from logprob_store.spending.budget import CallRecord
    from logprob_store.spending.ceilings import Ceilings
    from logprob_store.spending.prices import Prices
    from logprob_store.spending.shared_ledger import EarlierSpent


@contextlib.contextmanager
def open_budget(
    ceilings: Mapping[str, Ceilings],
    *,
    run_id: str,
    job_name: str,
    ledger_folder: Path,
    prices: Prices | None = None,
    calls: CallRecord | None = None,
    earlier: Callable[[], Mapping[str, EarlierSpent]] = dict,
    patience_s: float = 600.0,
    sent_tier: str | None = None,
) -> Iterator[Budget]:
    """A budget, for as long as the context lasts.

    Args:
        ceilings: of the `run`, of all runs of the `job`, and of all users of the `cache`.
        run_id: the id of the run.
        job_name: the name of its job.
        ledger_folder: where runs that share a ceiling keep their ledger; not touched where none is shared.
        prices: what tokens cost; a ceiling in dollars needs them.
        calls: the record of the run's calls; without one, nothing is remembered across sessions.
        earlier: gives what other runs of the job have spent by their own records, by run id.
        patience_s: how long to wait for calls of other runs while none of them settles.
        sent_tier: the service tier that calls are sent by whose request names none.

    Raises:
        CacheError: the ledger cannot be used.
    """
    together = {whose: most for whose, most in ceilings.items() if whose != "run"}
    with contextlib.ExitStack() as opened:
        shared = None
        if any(most.any for most in together.values()):
            shared = open_shared_ledger(ledger_folder, run=run_id, job=job_name, ceilings=together)
            opened.callback(shared.close)
        budget = Budget(
            ceilings["run"],
            prices=prices,
            calls=calls,
            shared=shared,
            one_first=any(most.need_bounds for most in ceilings.values()),
            patience_s=patience_s,
            sent_tier=sent_tier,
            needs_prices=any(most.usd is not None for most in ceilings.values()),
        )
        if shared is not None:
            shared.begin(budget.amount, earlier())
        yield budget
