"""The first outcomes of a run: if all are of no use in the same way, no further call will be of any.

What is wrong with the job (an unknown model, a wrong path, a server that gives no logprobs or speaks another API) shows
in every call; without this, a night would ask all prompts. So the first answers are decoded as they come, before their
part is full, until one of them can be used. A run of few prompts is judged at its end.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from typing import TYPE_CHECKING, Final

from logprob_store.counted import counted
from logprob_store.decode.decoder import decode_answers
from logprob_store.errors import CallError, RetryableError, StopRunError
from logprob_store.failure_policy import FAILURES, concerns_the_prompt
from logprob_store.run.prompt_scoring import without_unscored
from logprob_store.transport.refusals import excerpt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from logprob_store.errors import DecodeError
    from logprob_store.failure_policy import FailureClass
    from logprob_store.request import Answer, Request

ALIKE: Final = 5
"""Different requests with outcomes of one kind, from the first call on, that stop a run."""

UNLIKE: Final = 10
"""The same where the kinds differ (two statuses that take turns): that prompts differ is likelier, so it takes more."""

_WORDS_SHOWN: Final = 3
"""Kinds of outcomes whose words are shown."""

_REFUSED: Final = frozenset(range(400, 500)) - {408, 429}
"""Statuses of refusals. Some are tried again as the server asks (409, 424, `x-should-retry`); two mean only later."""

ATTEMPTS_ALIKE: Final = 14
"""Attempts that got a page in place of an answer, or a refusal that is tried again, from the first call on, that stop a
run. Nine are made at once at most. After pages, one at a time is made for some eight seconds (`pacing.outcomes`): a
page that passes sooner stops nothing."""

_ATTEMPTS_OF_REQUESTS: Final = 3
"""Different requests that these attempts are of at least: one or two may be answered so each time."""

_AT_THE_END: Final = "of {requests} none got an answer of use. {where}. {advice}"
_CHANGE: Final = "Change what the job asks (model.name, model.base_url, model.params), then run it again."
_SEE: Final = FAILURES["outage"].advice.rpartition("{where}. ")[2]
_IF_UNLIKE: Final = f"none of the first {{count}} calls got an answer of use. {{where}}. {_CHANGE}"
_CACHED_LOOKED_AT: Final = 5
_FOR_THE_PROMPT: Final = frozenset({"invalid_request", "error_body"})
"""Classes whose words may say that it is the prompt which is refused."""

_ENDED_BY_A_FILTER: Final = re.compile(rb'"finish_reason"\s*:\s*"content_filter"|"refusal"\s*:\s*"[^"]')
"""An answer that a filter cut off, or a refusal in its place, has its prompt to blame for having no logprobs."""


class FirstOutcomes:
    """Watches the outcomes of a run until one answer can be used.

    `watching` says whether it does; `stop_reason` is set once enough of them show that no call will be of use.

    Args:
        watch: False for a run that has answers already: its job is one that can be answered.
        scores: whether an answer must score the text that was sent.
    """

    def __init__(self, *, watch: bool = True, scores: bool = False) -> None:
        self.watching = watch
        self.stop_reason: StopRunError | None = None
        self._scores = scores
        self._looking = asyncio.Lock()
        self._cached_left = _CACHED_LOOKED_AT
        self._words: dict[tuple[str, int | None], str] = {}  # of each kind, the first
        self._requests: set[bytes] = set()  # by their bodies: samples of one prompt are one
        self._attempts: dict[tuple[str, int | None], list[bytes]] = {}  # the bodies of requests
        self._given_up: dict[tuple[str, int | None], str] = {}  # the words of requests without a call to come
        self._given_up_count = 0
        self._any_otherwise = False

    async def take(self, request: Request, outcome: Answer | CallError) -> None:
        """Take note of an answer, or of an attempt that got none.

        One after the other, in the order in which they came: a good answer counts before what came after it, though it
        takes longer to look at.
        """
        async with self._looking:
            if not self.watching:
                return
            if isinstance(outcome, RetryableError):
                if outcome.error_type == "malformed_answer" or outcome.status in _REFUSED:
                    self._count_attempt(request, outcome)
            elif isinstance(outcome, CallError):
                self._count(request, outcome.error_type, outcome.status, str(outcome))
            elif outcome.source == "fixture" or (problem := await self._problem(outcome)) is None:
                self.watching = False  # a recorded answer may be of no use: nothing is paid for the next
            elif _ENDED_BY_A_FILTER.search(outcome.body) is None:
                is_unknown = problem.error_type == "malformed_answer"
                shown = f". The answer begins: {excerpt(outcome.body)}" if is_unknown else ""
                self._count(request, problem.error_type, outcome.status, f"{problem}{shown}")
                self.give_up(problem.error_type, outcome.status, f"{problem}{shown}")
            else:
                self._any_otherwise = True

    def give_up(self, error_type: str, status: int | None, message: str) -> None:
        """Take note that a request is not asked again in this session, and how its last call failed."""
        if not self.watching or self._any_otherwise:
            return
        kind = FAILURES.get(error_type)
        # An answer that came and was paid for shows that the server serves the job, though not as it should.
        self._any_otherwise = kind is None or kind.billed == "yes" or not _may_be_for_all(error_type, message)
        self._given_up.setdefault((error_type, status), message.rstrip("."))
        self._given_up_count += 1

    @property
    def reason_at_the_end(self) -> StopRunError | None:
        """Why no request of a run was answered, once all were asked; None where one was, or failed for its prompt."""
        if not self.watching or self._any_otherwise or not self._given_up:
            return None
        kinds = [FAILURES[error_type] for error_type, _ in self._given_up]
        told = next((kind for kind in kinds if kind.if_all), FAILURES["outage"])
        advice = _SEE if not told.if_all else _CHANGE if len(kinds) > 1 else told.what_to_change
        where = "; ".join([*self._given_up.values()][:_WORDS_SHOWN])
        said = _AT_THE_END.format(requests=counted(self._given_up_count, "request"), where=where, advice=advice)
        ((_, status), *others) = self._given_up
        return StopRunError(said.rstrip(), reason=_reason(told), status=None if others else status)

    async def take_cached(self, answers: Iterable[Answer]) -> None:
        """Take note of answers from the cache: a good one shows what bad ones do not, which may be old."""
        for answer in answers:
            if not self.watching or self._cached_left == 0:
                return
            self._cached_left -= 1
            if await self._problem(answer) is None:
                self.watching = False

    async def _problem(self, answer: Answer) -> DecodeError | None:
        """Why an answer cannot be used; None if it can."""
        return await asyncio.to_thread(_problem_of, answer, scores=self._scores)

    def _count(self, request: Request, error_type: str, status: int | None, message: str) -> None:
        kind = FAILURES.get(error_type)
        if kind is None or not kind.if_all or not _may_be_for_all(error_type, message):
            return
        self._words.setdefault((error_type, status), message.rstrip("."))
        self._requests.add(request.content)
        if len(self._words) > 1 and len(self._requests) >= UNLIKE:
            self._stop(_unlike(self._words), len(self._requests), "; ".join([*self._words.values()][:_WORDS_SHOWN]))
        elif len(self._words) == 1 and len(self._requests) >= ALIKE:
            self._stop(kind, len(self._requests), message, status)

    def _count_attempt(self, request: Request, error: CallError) -> None:
        attempts = self._attempts.setdefault((error.error_type, error.status), [])
        attempts.append(request.content)
        if len(attempts) >= ATTEMPTS_ALIKE and len(set(attempts)) >= _ATTEMPTS_OF_REQUESTS:
            kind = FAILURES["malformed_answer" if error.error_type == "malformed_answer" else "invalid_request"]
            self._stop(kind, len(attempts), str(error), error.status)

    def _stop(self, kind: FailureClass, count: int, message: str, status: int | None = None) -> None:
        if self.stop_reason is None:
            said = kind.if_all.format(count=count, where=message.rstrip("."))
            self.stop_reason = StopRunError(said, reason=_reason(kind), status=status)


def _reason(kind: FailureClass) -> str:
    return "all_refused" if kind.name == "invalid_request" else kind.name


def _may_be_for_all(error_type: str, message: str) -> bool:
    """Whether a failure may be one of the server or of the job, so that each other request may fail alike."""
    kind = FAILURES.get(error_type)
    if kind is None or (error_type in _FOR_THE_PROMPT and concerns_the_prompt(message)):
        return False
    return bool(kind.if_all) or (kind.then == "again" and error_type != "machine_limit")


def _unlike(kinds: Iterable[tuple[str, int | None]]) -> FailureClass:
    """What a run stops over whose first outcomes differ: the first that is no refusal, if there is one."""
    classes = [FAILURES[error_type] for error_type, _ in kinds]
    worst = next((kind for kind in classes if kind.name != "invalid_request"), classes[0])
    return dataclasses.replace(worst, if_all=_IF_UNLIKE)


def _problem_of(answer: Answer, *, scores: bool) -> DecodeError | None:
    decoded = decode_answers([answer])
    if scores:
        decoded = without_unscored([answer], decoded)
    return decoded.failures[0][1] if decoded.failures else None
