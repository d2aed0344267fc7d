"""Before the first call: whether the model takes what a job asks, how long it will be there, and what is lost.

Only calls that would go to a server are looked at. What a recording or the cache answers needs no model.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from logprob_store.errors import CallError, JobError, PromptError
from logprob_store.events import emit
from logprob_store.models.refusals import refusal_of
from logprob_store.models.shutdowns import shutdown_notice
from logprob_store.models.table import read_table, shipped_table
from logprob_store.run.batches_under_way import check_batches, refuse_removal
from logprob_store.run.lost_answers import refuse_other_answers
from logprob_store.run.plan import request_of_job
from logprob_store.run.unanswered import manifest_as_it_goes_on, unanswered_calls, unanswered_requests
from logprob_store.store.run_folders import check_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from logprob_store.job import Job
    from logprob_store.models.refusals import Refusal
    from logprob_store.models.table import KnownModel, ModelTable
    from logprob_store.request import Request
    from logprob_store.run.plan import Plan

log = logging.getLogger(__name__)

REFUSED_ROW: Final = "bad_prompt"
"""The class of failure of a row whose parameters its model refuses: it is not asked."""


def table_of(job: Job) -> ModelTable:
    """The table of models that holds for a job.

    Raises:
        JobError: the job's own table cannot be read.
    """
    return shipped_table() if job.table_path is None else read_table(job.table_path)


class ModelCheck:
    """What is known of the models that a job asks. For a replay nothing is.

    Raises:
        JobError: as `table_of`.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._table = table_of(job) if job.asks_server else None
        self._known: dict[str, KnownModel | None] = {}

    @property
    def model(self) -> KnownModel | None:
        """The model that the job names; None where nothing is known of it.

        Raises:
            JobError: `model.takes` is like a model that is not known.
        """
        return self._model(self._job.model.name)

    def _model(self, name: str) -> KnownModel | None:
        if self._table is None:
            return None
        if name not in self._known:
            model = self._job.model
            azure = model.azure_api_version is not None
            self._known[name] = self._table.known(name, base_url=model.base_url, azure=azure, takes=model.takes)
        return self._known[name]

    def refusal(self, request: Request) -> Refusal | None:
        """Why the model would refuse a request; None where nothing is known against it."""
        model = None if request.model is None else self._model(request.model)
        if model is None or self._table is None:
            return None
        return refusal_of(request, model, self._table, sent_tier=self._job.transport.tier)

    def refused_row(self, request: Request) -> CallError | None:
        """The failure of a request that is not to be asked, for its row's parameters; None if it is."""
        refusal = self.refusal(request)
        if self._job.transport.kind == "batch" and "service_tier" in request.body:
            said = "service_tier in the row's params has no meaning in a batch, which is a tier: take it out"
        elif refusal is None:
            return None
        else:
            said = " ".join(refusal.sentence(where="in the row's params").split())
        error = CallError(said, error_type=REFUSED_ROW)
        error.attempts = 0
        return error

    def notice(self) -> str | None:
        """That the job's model shuts down soon, or has; None where it does not."""
        if self.model is None or self._table is None:
            return None
        return shutdown_notice(self.model, self._table, datetime.now(UTC).date())

    def warn(self) -> None:
        """Log what is to be known of the job's model."""
        if (notice := self.notice()) is not None and self.model is not None:
            takes = self.model.takes
            shutdown = None if takes.shutdown is None else takes.shutdown.isoformat()
            emit(
                log,
                "model_shutdown",
                "%s",
                notice,
                model=self.model.name,
                shutdown=shutdown,
                successor=takes.successor,
            )

    def is_suspect(self) -> bool:
        """Whether the model would refuse what the job asks, whatever the prompt; the rows' own parameters aside."""
        if self.model is None:
            return False
        content: Any = [{"role": "user", "content": ""}] if self._job.model.endpoint == "chat" else ""
        try:
            return self.refusal(request_of_job(self._job, content, provider="")) is not None
        except PromptError:  # rows have what it lacks
            return True

    def refuse_hopeless(self, unanswered: Iterable[Request]) -> None:
        """Refuse a job of which no call can be answered; to be asked where `is_suspect`.

        Args:
            unanswered: the requests that would be sent.

        Raises:
            JobError: the model would refuse each of them. It says why, and what to write.
        """
        first: Refusal | None = None
        for request in unanswered:
            refusal = self.refusal(request)
            if refusal is None:
                return
            first = first or refusal
            if self._job.prompts.params is None:  # all are alike
                break
        if first is not None:
            raise JobError(first.sentence())


def refuse_hopeless_request(job: Job, request: Request) -> None:
    """Refuse a request that its model would refuse, unless the cache answers it.

    Raises:
        JobError: it says why, and what to write.
    """
    refusal = ModelCheck(job).refusal(request)
    if refusal is not None and unanswered_requests(job, [request]):
        raise JobError(refusal.sentence(where="in the call", in_python=True))


def refuse_hopeless_requests(job: Job, requests: Sequence[Request], models: ModelCheck) -> None:
    """Refuse requests of which none can be answered, neither by the cache nor by the model.

    Raises:
        JobError: as `ModelCheck.refuse_hopeless`.
    """
    if models.is_suspect():
        models.refuse_hopeless(unanswered_requests(job, requests))


def refuse_run(plan: Plan, run: str, models: ModelCheck, *, anew: bool, replace: bool = False) -> None:
    """Refuse a run before anything is asked or written: no call can be answered, or its lost answers are gone.

    Args:
        plan: the calls of the job.
        run: the run's name.
        models: what is known of the models that it asks.
        anew: whether the run begins, whatever there is of that name.
        replace: whether the run of that name is taken out.

    Raises:
        JobError: the model would refuse each call that would be made.
        StoreError: as `refuse_other_answers` and `check_batches`, or the store would be inside another one.
        InputError: as a run of the plan.
    """
    check_place(plan.job.store_folder)
    if replace:
        refuse_removal(plan.job.store_folder, run)
    elif not anew:
        check_batches(plan, run)
    if models.is_suspect():
        calls = unanswered_calls(plan, run, None if anew else manifest_as_it_goes_on(plan, run))
        models.refuse_hopeless(request for _, requests in calls for request in requests)
    refuse_other_answers(plan, run, anew=anew)
