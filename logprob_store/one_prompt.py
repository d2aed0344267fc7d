"""`complete`, which asks one prompt, for trying prompts in a notebook, and the `Completion` that it returns.

The call has the same request key, cache, retry and replay as a job's. Nothing is written but the cache.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from logprob_store.counted import counted
from logprob_store.decode.decoder import decode_answers
from logprob_store.errors import CallError
from logprob_store.job import make_job
from logprob_store.metrics.tokens.sequence import confidence, logprob_sum, min_probability, perplexity
from logprob_store.run.event_loop import run_to_end
from logprob_store.run.plan import request_of_job
from logprob_store.run.preflight import refuse_hopeless_request
from logprob_store.run.resources import open_asker_alone, open_transport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from logprob_store.job import Job
    from logprob_store.request import Answer, Request

_LONGEST_SHOWN: Final = 60
"""Characters of a text that `repr` shows."""


@dataclass(frozen=True)
class Completion:
    """One answer with its tokens. With n > 1 the properties are of the first choice; the frames have all choices.

    Attributes:
        completions: one row per choice, the columns of a store's completions.
        tokens: one row per token of all choices.
        alternatives: one row per token and rank of all choices.
    """

    completions: pl.DataFrame = field(repr=False)
    tokens: pl.DataFrame = field(repr=False)
    alternatives: pl.DataFrame = field(repr=False)

    @property
    def text(self) -> str | None:
        """The text of the first choice, as the server gave it."""
        text: str | None = self._first("text")
        return text

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended."""
        reason: str | None = self._first("finish_reason")
        return reason

    @property
    def source(self) -> str:
        """Where the answer came from: `api`, `cache` or `fixture`."""
        return str(self._first("source"))

    @property
    def perplexity(self) -> float | None:
        """exp(-mean logprob) of the first choice; None without scored tokens."""
        return self._metric(perplexity())

    @property
    def confidence(self) -> float | None:
        """exp(mean logprob) of the first choice; None without scored tokens."""
        return self._metric(confidence())

    @property
    def logprob_sum(self) -> float | None:
        """The sum of the first choice's logprobs, in nats; None without scored tokens."""
        return self._metric(logprob_sum())

    @property
    def min_probability(self) -> float | None:
        """The probability of the first choice's least likely token; None without scored tokens."""
        return self._metric(min_probability())

    def scores(self) -> pl.DataFrame:
        """One row per choice with all scores, as `Store.scores` gives."""
        from logprob_store.metrics.engine.score_table import scores

        run = pl.lit("complete").alias("run")
        frames = (self.tokens, self.alternatives, self.completions)
        return scores(*(frame.lazy().select(run, pl.all()) for frame in frames)).collect()

    def __repr__(self) -> str:
        """The text with its confidence, on one line; `show` prints it in colours."""
        text = "" if self.text is None else self.text
        shown = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
        choices = "" if self.completions.height == 1 else f", the first of {self.completions.height} choices"
        return f"<Completion {shown!r}: {self._scores()}{choices}>"

    def _repr_html_(self) -> str:
        from logprob_store.view.html import completion_html

        first = pl.col("completion_id") == self._first("completion_id")
        return completion_html(self.tokens.filter(first), self.alternatives.filter(first), self._scores())

    def show(self) -> None:
        """Print the first choice coloured by probability, its scores, and its least certain tokens."""
        from rich.console import Console

        from logprob_store.view.highlight import coloured, uncertain

        # In a notebook rich would display by itself, once for each print.
        console = Console(force_jupyter=False)
        first = pl.col("completion_id") == self._first("completion_id")
        tokens = self.tokens.filter(first)
        console.print(coloured(tokens))
        console.print(self._scores(), style="dim")
        console.print(uncertain(tokens, self.alternatives.filter(first)))

    def _scores(self) -> str:
        tokens = counted(self._first("completion_tokens") or self.tokens.height, "token")
        if self.confidence is None:
            return f"{tokens}, no logprobs"
        return f"{tokens}, confidence {self.confidence:.3f}, perplexity {self.perplexity:.3f}"

    def _first(self, column: str) -> Any:
        return self.completions[column][0]

    def _metric(self, metric: pl.Expr) -> float | None:
        mine = (pl.col("completion_id") == self._first("completion_id")) & (pl.col("section") != "prompt")
        value: float | None = self.tokens.lazy().filter(mine).select(metric).collect().item()
        return value


def complete(
    messages: str | Sequence[Mapping[str, Any]],
    *,
    model: str,
    endpoint: str = "chat",
    max_tokens: int | None = None,
    temperature: float | None = None,
    stop: str | Sequence[str] | None = None,
    seed: int | None = None,
    n: int | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    logprobs: bool = True,
    top_logprobs: int = 5,
    params: Mapping[str, Any] | None = None,
    sample_index: int = 0,
    base_url: str | None = None,
    api_key: str | None = None,
    provider: str | None = None,
    takes: str | Mapping[str, Any] | None = None,
    cache: str | Path | None = None,
    fixtures: str | Path | None = None,
    attempts: int = 6,
    timeout_s: float = 600.0,
) -> Completion:
    """Ask once, and get the answer with every token's logprob and alternatives.

    Works in scripts and in notebooks alike (where an event loop is running already).

    Args:
        messages: chat messages, or a text: a user's message, or the prompt of the completions endpoint.
        model: the model's name.
        endpoint: `chat` or `completions`.
        max_tokens: the most tokens of the answer; this and the next five are sent when given.
        temperature: 0 for the most likely answer.
        stop: texts that end the answer.
        seed: for servers that sample repeatably.
        n: the number of choices.
        tools: functions that the model may call.
        logprobs: whether to ask for logprobs at all.
        top_logprobs: alternatives per token.
        params: further body parameters, sent as they are.
        sample_index: another number asks the same question under another key.
        base_url: the URL of the API, OpenAI's when None.
        api_key: when None, the environment variable OPENAI_API_KEY is sent to OpenAI; any other server gets no key.
        provider: names the service in the request key, in place of the base URL.
        takes: what the model takes, where the table of models does not know it: as `model.takes` of a job file.
        cache: a folder, in which answers are kept so that they are not asked again.
        fixtures: recordings to answer from; then no server is asked.
        attempts: the most calls to make.
        timeout_s: seconds that one call may take.

    Raises:
        JobError: an argument has a wrong value, the key or the URL is not usable, or the model would refuse it.
        CallError: no usable answer.
        StopRunError: no access, no quota, or a model that gives no logprobs.
        DecodeError: the answer is malformed, or has no logprobs though asked for.
        PromptError: the request cannot be written as JSON.

    Example:
        >>> import logprob_store as ls
        >>> params = {"reasoning_effort": "none", "max_completion_tokens": 16}
        >>> answer = ls.complete("The capital of France is", model="gpt-6-luna", params=params)  # doctest: +SKIP
        >>> answer.text, answer.confidence  # doctest: +SKIP
        ('Paris', 0.93)
    """
    named = {"max_tokens": max_tokens, "temperature": temperature, "stop": stop, "seed": seed, "n": n, "tools": tools}
    prompt: Any = messages
    if endpoint == "chat":
        prompt = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
    job = make_job(
        "complete",
        prompts={"path": ".", "prompt": "prompt"},  # not read: the prompt is an argument
        store={"path": "."},  # nothing is stored
        model={
            "endpoint": endpoint,
            "name": model,
            "base_url": base_url,
            "provider": provider,
            "takes": takes,
            "logprobs": logprobs,
            "top_logprobs": top_logprobs,
            "params": {**{name: value for name, value in named.items() if value is not None}, **(params or {})},
        },
        limits={"concurrency": 1, "attempts": attempts, "timeout_s": timeout_s},
        cache={"mode": "off"} if cache is None else {"path": str(cache)},
        transport={} if fixtures is None else {"kind": "replay", "fixtures": str(fixtures)},
    )
    request = request_of_job(job, prompt, provider=job.model.identity, sample_index=sample_index)
    return completion_of(run_to_end(_ask(job, request, api_key=api_key)))


def completion_of(answer: Answer) -> Completion:
    """An answer with its tokens and alternatives.

    Raises:
        DecodeError: the answer is malformed, or has no logprobs though asked for.
    """
    decoded = decode_answers([answer])
    for _, error in decoded.failures:
        raise error
    tables = (decoded.completions, decoded.tokens, decoded.alternatives)
    completions, tokens, alternatives = (pl.DataFrame(pl.from_arrow(table)) for table in tables)
    return Completion(completions, tokens, alternatives)


async def _ask(job: Job, request: Request, *, api_key: str | None) -> Answer:
    refuse_hopeless_request(job, request)
    async with (
        open_transport(job, api_key=api_key) as transport,
        open_asker_alone(job, transport, waits_at_once=False) as asker,
    ):
        cached = await asker.look_up([request])
        if cached:
            return asker.answer_from_cache(cached[request.key], request)
        try:
            return await asker.ask(request)
        except CallError as error:
            raise asker.refusal_of_all or error from None
