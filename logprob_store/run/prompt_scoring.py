"""Requests that score given text, and the check that an answer does score it.

Some servers ignore `echo` without an error, or answer with zeros: then all candidates would look equally likely. The
logprobs of the text sent are decoded as section `prompt`; `metrics.given` computes scores from them.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from logprob_store.errors import DecodeError, PromptError
from logprob_store.schema import CHOICES_PER_SAMPLE, completion_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from logprob_store.decode.decoder import Decoded
    from logprob_store.job import ModelSection
    from logprob_store.request import Answer

ECHO_IGNORED: Final = "echo_ignored"

_WAY_OUT: Final = (
    "Use a server that scores prompts, such as vLLM, or ask it the other way: model.score_by is "
    '"echo" or "prompt_logprobs"'
)
_NO_PROMPT: Final = (
    f"the answer holds no logprobs of the text that was sent: the server ignores what asks for them, as llama.cpp and "
    f"Ollama do. {_WAY_OUT}"
)
_ALL_ZERO: Final = (
    f"every token of the text that was sent has a logprob of exactly 0.0: the server does not compute them. {_WAY_OUT}"
)


def scoring_params(model: ModelSection) -> dict[str, Any]:
    """The body parameters of a request for scores, beside the text and `logprobs`; the job's own override them."""
    if model.mode == "generate":
        return {}
    if model.score_by == "echo":
        return {"echo": True, "max_tokens": 0}
    # vLLM generates at least one token, which is not part of the score.
    return {"prompt_logprobs": model.top_logprobs, "max_tokens": 1}


def check_scoring(body: Mapping[str, Any]) -> None:
    """Check that the answer to a request will score the text once.

    Raises:
        PromptError: it would score it several times or not at all; the error names the parameter.
    """
    for name in ("n", "best_of"):
        if body.get(name) not in {None, 1}:
            raise PromptError(f'params.{name} is {body[name]!r}; with model.mode = "score" it must be 1')
    if not body.get("echo") and body.get("prompt_logprobs") is None:
        raise PromptError('params turn off what model.mode = "score" asks with: take echo and prompt_logprobs out')


def without_unscored(answers: Sequence[Answer], decoded: Decoded) -> Decoded:
    """The decoded answers without those that do not score the text sent, which become failures `echo_ignored`."""
    numbers = {
        completion_id(answer.request.prompt_index, answer.request.sample_index) // CHOICES_PER_SAMPLE: number
        for number, answer in enumerate(answers)
    }
    messages = dict.fromkeys(_calls(decoded.completions).to_pylist(), _NO_PROMPT)
    for call, all_zero in _prompt_tokens(decoded.tokens).iter_rows():
        del messages[call]
        if all_zero:
            messages[call] = _ALL_ZERO
    failures = [(number, _as_ignored(error)) for number, error in decoded.failures]
    failures += [(numbers[call], DecodeError(message, error_type=ECHO_IGNORED)) for call, message in messages.items()]
    tables = {name: _without(getattr(decoded, name), messages) for name in ("completions", "tokens", "alternatives")}
    return dataclasses.replace(decoded, **tables, failures=sorted(failures, key=lambda failure: failure[0]))


def _prompt_tokens(tokens: pa.Table) -> pl.DataFrame:
    """A row for each call with tokens of the prompt: whether all their logprobs are 0.0; false if there are none."""
    rows = pl.DataFrame(pl.from_arrow(tokens.select(["completion_id", "section", "logprob"])))
    logprob = pl.col("logprob")
    return (
        rows.filter(pl.col("section") == "prompt")
        .group_by(pl.col("completion_id") // CHOICES_PER_SAMPLE)
        .agg((logprob == 0.0).all() & (logprob.count() > 0))
    )


def _as_ignored(error: DecodeError) -> DecodeError:
    """A failure `no_logprobs` as `echo_ignored`: a server that ignores `echo` and generates nothing has no logprobs."""
    return DecodeError(_NO_PROMPT, error_type=ECHO_IGNORED) if error.error_type == "no_logprobs" else error


def _without(table: pa.Table, calls: Mapping[int, str]) -> pa.Table:
    if not calls:
        return table
    return table.filter(pc.invert(pc.is_in(_calls(table), value_set=pa.array(list(calls), pa.int64()))))


def _calls(table: pa.Table) -> pa.ChunkedArray:
    return pc.divide(table["completion_id"], CHOICES_PER_SAMPLE)
