"""The request that goes on from an alternative: the same prompt, the text so far, and the alternative's bytes.

Completions go on with a prompt anyway. Chat goes on with a last message of the assistant: llama.cpp, vLLM and SGLang do
so with `continue_final_message` and without a generation prompt. OpenAI begins another message instead, so it is not
asked. What cannot be gone on from is refused with a sentence; nothing is asked here.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from logprob_store.errors import InputError, JobError
from logprob_store.request import OPENAI_BASE_URL
from logprob_store.run.plan import request_of_job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.job import Job
    from logprob_store.request import Answer, Request

_ASKED_TO_CONTINUE: Final = {"continue_final_message": True, "add_generation_prompt": False}
_BEGIN_A_MESSAGE: Final = (".openai.com", ".azure.com")
"""Ends of the hosts whose chat answers with a message of its own, whatever the last one is."""
_ENDS_AN_ANSWER: Final = re.compile(r"<[|\uff5c].*[|\uff5c]>|</s>|<eos>|<end_of_turn>")
"""Tokens by which models end an answer, where a server spells them."""
_FROM_THE_BEGINNING: Final = frozenset(
    {
        *("functions", "grammar", "guided_choice", "guided_grammar", "guided_json", "guided_regex", "json_schema"),
        *("response_format", "structured_outputs", "tools"),
    }
)
"""Parameters that say how a text has to begin; servers hold what they write to them, and not what stands before it."""
_NOTHING_ASKED: Final[tuple[Any, ...]] = (None, False, [], {}, "", {"type": "text"})
_LEFT_OUT: Final = {"n": 1, "best_of": 1, "echo": False}
"""One continuation is asked for, and the text so far is known."""


@dataclass(frozen=True, slots=True)
class Written:
    """An answer as it was written, up to the token in whose place another one is to stand.

    `prompt` is the text or the messages that were asked, None where the store lacks them; `model` is the one that was
    asked, `text` the whole answer. `before` has the bytes of each token before the place, None where they are not
    known. `sections` are those that the answer has tokens in.
    """

    prompt: Any
    model: str | None
    text: str | None
    section: str
    before: Sequence[bytes | None]
    sections: frozenset[str] = frozenset({"content"})


def refuse_job(job: Job) -> None:
    """Refuse a job by which nothing can be gone on from.

    Raises:
        JobError: it says why.
    """
    if (why := _why_not(job)) is not None:
        raise JobError(f"{job.file or job.name}: no answer can be gone on from by this job: {why}")


def _why_not(job: Job) -> str | None:
    model = job.model
    if not job.asks_server:
        return 'transport.kind = "replay" asks no server; name a job that asks one'
    if job.transport.kind == "batch" and (job.batch_folder is not None or job.batch.service == "vllm"):
        return "its batches are files, and no server is named"
    if model.endpoint not in {"chat", "completions"}:
        return f'model.endpoint = "{model.endpoint}" takes no text to go on with; "chat" and "completions" do'
    if model.mode == "score":
        return 'model.mode = "score" writes no answers'
    host = urlsplit(model.base_url or OPENAI_BASE_URL).hostname or ""
    if model.endpoint == "chat" and (model.azure_api_version is not None or host.endswith(_BEGIN_A_MESSAGE)):
        return (
            "OpenAI's chat begins a new message after one of the assistant, and does not go on with it. "
            "Servers of llama.cpp, vLLM and SGLang do"
        )
    asked = {name for name in _FROM_THE_BEGINNING if model.params.get(name) not in _NOTHING_ASKED}
    return f"model.params.{min(asked)} says how a text begins, and a server would begin anew by it" if asked else None


def continuing_request(job: Job, written: Written, alternative: bytes | None) -> Request:
    r"""The request that goes on from an alternative.

    The parameters are the job's: as many tokens as an answer may have come after the alternative.

    Args:
        job: names the server, the model and the parameters; `refuse_job` has nothing against it.
        written: what stands before the alternative.
        alternative: its bytes.

    Raises:
        InputError: it cannot be gone on from here; the message says why.
        PromptError: the request has no bound that a ceiling needs.

    >>> from logprob_store.job import make_job
    >>> job = make_job("j", prompts={"path": "p", "prompt": "p"}, store={"path": "s"},
    ...     model={"name": "m", "endpoint": "completions", "base_url": "http://127.0.0.1:8080/v1", "top_logprobs": 1})
    >>> written = Written("The sky is", "m", " blue.", "content", [])
    >>> continuing_request(job, written, b" gr\xc3\xbcn").content.decode()
    '{"model":"m","prompt":"The sky is grün","logprobs":1}'
    """
    _refuse_written(job, written)
    text = _text_so_far(written, alternative)
    model = job.model
    params = {name: value for name, value in _LEFT_OUT.items() if model.params.get(name) not in (None, value)}
    if model.endpoint == "completions":
        prompt: Any = f"{written.prompt}{text}"
    else:
        prompt = _with_answer(written.prompt, text)
        params |= _ASKED_TO_CONTINUE
    return request_of_job(job, prompt, params=params, provider=model.identity)


def _refuse_written(job: Job, written: Written) -> None:
    if written.section != "content":
        raise InputError(f"only the text of an answer can be gone on with, and this token is of its {written.section}")
    if "reasoning" in written.sections:
        raise InputError("the answer followed a reasoning, which servers do not take back: it cannot be gone on with")
    if written.model != job.model.name:
        raise InputError(
            f"the answer is by {written.model}, and the job asks {job.model.name}: name a job that asks it"
        )
    if written.prompt is None:
        raise InputError("the store does not hold the prompt, so that it cannot be asked again")
    if not isinstance(written.prompt, str if job.model.endpoint == "completions" else list):
        raise InputError(f'the prompt is none of the endpoint "{job.model.endpoint}", which the job asks')


def _text_so_far(written: Written, alternative: bytes | None) -> str:
    """The text up to the alternative, with it."""
    if alternative is None or any(token is None for token in written.before):
        raise InputError("the server named a token by no text, so that what stands here cannot be sent")
    if not alternative or _ENDS_AN_ANSWER.fullmatch(alternative.decode(errors="replace").strip()):
        raise InputError("this token ends the answer: nothing follows it")
    before = b"".join(token for token in written.before if token is not None)
    # Some servers strip the white space around a text.
    if not (written.text or "").lstrip().encode().startswith(before.lstrip()):
        raise InputError("the tokens up to here do not spell the answer's text, so that it cannot be gone on with")
    try:
        return (before + alternative).decode()
    except UnicodeDecodeError:
        raise InputError("this token ends within a character, which cannot be sent as text") from None


def _with_answer(messages: Sequence[Any], text: str) -> list[Any]:
    """The messages with the answer so far; one of the assistant's at the end, which was gone on with before, has it."""
    last = messages[-1] if messages else None
    if not isinstance(last, dict) or last.get("role") != "assistant":
        return [*messages, {"role": "assistant", "content": text}]
    if not isinstance(last.get("content"), str):
        raise InputError("the prompt's last message is the assistant's and no plain text: it cannot be gone on with")
    return [*messages[:-1], {**last, "content": f"{last['content']}{text}"}]


def without_echo(answer: Answer) -> Answer | None:
    """An answer that repeats the message that it should go on with and adds nothing, as one with an empty text.

    llama.cpp repeats it, and where the model ends at once no logprobs stand beside it, as if they were refused.

    Returns:
        None for an answer that is not so.
    """
    try:
        body = msgspec.json.decode(answer.body)
        (choice,) = body["choices"]
        repeated = choice["message"]["content"] == answer.request.body["messages"][-1]["content"]
        has_tokens = bool((choice.get("logprobs") or {}).get("content"))
    except (AttributeError, LookupError, TypeError, ValueError):  # msgspec's errors are of the last
        return None
    if not repeated or has_tokens:
        return None
    ended = {**choice, "message": {**choice["message"], "content": ""}}
    return dataclasses.replace(answer, body=msgspec.json.encode({**body, "choices": [ended]}))
