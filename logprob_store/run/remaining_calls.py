"""The calls that earlier sessions of a run left to make: those without an outcome, and those that failed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from logprob_store.failure_policy import asks_anew
from logprob_store.run.lost_answers import lost_answers
from logprob_store.schema import call_number, call_of_number
from logprob_store.store.intervals import IntervalSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from logprob_store.cache.answers import CachedAnswer
    from logprob_store.request import Request
    from logprob_store.run.plan import Chunk, PassedOver, Plan
    from logprob_store.store.commit import RunWriter

log = logging.getLogger(__name__)


class RemainingCalls:
    """What is left of a plan when a session begins.

    `answered` is the number of calls that have an answer. Every other call is made, unless the job's `select` passes it
    over: one that failed is made again. `passed` is the number of those that are passed over, as far as it is known.

    Args:
        plan: the calls of the job.
        writer: of the run; knows the outcomes of earlier sessions.
    """

    def __init__(self, plan: Plan, writer: RunWriter) -> None:
        self._plan = plan
        self._writer = writer
        self._failed = dict(writer.open_failures)  # the error type by call number
        outcomes = len(writer.settled) - writer.manifest.absent
        self.answered = min(outcomes - len(self._failed), plan.call_count)
        self.passed = sum(writer.manifest.passed.values())
        self._selected: list[PassedOver | None] = []

    def chunks(self, *, is_stopped: Callable[[], bool] = lambda: False) -> Iterator[Chunk] | None:
        """The calls left to make; None if the manifest shows that there are none, so that no prompt need be read.

        Which of them the job's `select` passes over is found out first, and takes a pass over the prompts and the keys
        of all earlier runs.

        Args:
            is_stopped: whether to end that early; the chunks are then of no use.

        Raises:
            StoreError: the rows of an earlier run cannot be read.
        """
        plan, writer = self._plan, self._writer
        lost = lost_answers(plan, writer.manifest)
        # What is gone from the cache stays open, and is not asked: see `lost_answers`.
        settled = IntervalSet([*writer.settled.intervals, *lost.gone.intervals])
        end = call_number(plan.prompt_count, 0, plan.calls_per_prompt)
        first = min([settled.first_missing(), *(call for call in self._failed if call < end)])
        prompts_read = writer.manifest.prompts_read
        skip = min(call_of_number(first, plan.calls_per_prompt)[0], prompts_read)
        if skip >= plan.prompt_count:
            return None
        return plan.chunks(
            settled=settled,
            again=self._failed,
            skip=skip,
            prompts_read=prompts_read,
            passed_over=self._passed_over(settled, skip, is_stopped),
        )

    def _passed_over(self, settled: IntervalSet, skip: int, is_stopped: Callable[[], bool]) -> PassedOver | None:
        """Found out once: a session with batches goes over its calls several times."""
        if not self._selected:
            self._selected.append(self._select(settled, skip, is_stopped))
        return self._selected[0]

    def _select(self, settled: IntervalSet, skip: int, is_stopped: Callable[[], bool]) -> PassedOver | None:
        plan, manifest = self._plan, self._writer.manifest
        if plan.job.prompts.select == "all":
            return None
        from logprob_store.run.selection import earlier_manifests, select_calls

        earlier = earlier_manifests(self._writer.store, manifest.run, before=manifest.created_at)
        log.info("select = %s: looking for this run's calls in %d earlier runs", plan.job.prompts.select, len(earlier))
        unsettled = plan.chunks(settled=settled, skip=skip, prompts_read=plan.prompt_count)
        selection = select_calls(plan, unsettled, earlier, is_stopped=is_stopped)
        self.passed += sum(selection.counts.values())
        return selection.passed_over

    def has_failed(self, call: int) -> bool:
        """Whether a call failed in an earlier session."""
        return call in self._failed

    def needs_new_answer(self, request: Request) -> bool:
        """Whether the call failed because of the answer that it got, so that the server has to be asked again."""
        return asks_anew(self._failed.get(self._plan.number_of(request)))

    def is_rejected(self, cached: CachedAnswer, request: Request) -> bool:
        """Whether a cached answer is the one that the call failed with; a later answer has not been decoded yet."""
        if not self.needs_new_answer(request):
            return False
        fetched_at = cached.meta.fetched_at
        return fetched_at is None or fetched_at <= self._writer.failed_at[self._plan.number_of(request)]
