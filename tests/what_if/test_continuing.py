"""The request that goes on from an alternative, and what is refused without asking."""

from __future__ import annotations

from typing import Any

import pytest
from builders import answer_to, chat_body, chat_request, chat_token

from logprob_store.errors import InputError, JobError
from logprob_store.job import Job, make_job
from logprob_store.what_if.continuing import Written, continuing_request, refuse_job, without_echo

URL = "http://127.0.0.1:9/v1"
ASKED = [{"role": "user", "content": "Hi"}]


def job_with(model: dict[str, Any] | None = None, **sections: Any) -> Job:
    """A job at a server of one's own."""
    named = {"name": "m", "base_url": URL, **(model or {})}
    return make_job("j", prompts={"path": "p", "prompt": "p"}, store={"path": "s"}, model=named, **sections)


def written(**changes: Any) -> Written:
    """An answer in whose second token another one is to stand."""
    usual = {"prompt": ASKED, "model": "m", "text": "No way", "section": "content", "before": [b"No"]}
    return Written(**{**usual, **changes})


# jobs


@pytest.mark.parametrize(
    "model",
    [{}, {"endpoint": "completions"}, {"params": {"response_format": {"type": "text"}}}, {"params": {"tools": []}}],
)
def test_a_server_of_one_s_own_goes_on(model: dict[str, Any]) -> None:
    """With chat and with completions."""
    refuse_job(job_with(model))


def test_completions_of_openai_go_on() -> None:
    """They take a prompt, and there is nothing in it that ends a message."""
    refuse_job(job_with({"base_url": None, "endpoint": "completions"}))


@pytest.mark.parametrize(
    ("model", "sections", "words"),
    [
        ({"base_url": None}, {}, "OpenAI's chat begins a new message"),
        ({"base_url": "https://eu.api.openai.com/v1"}, {}, "OpenAI's chat begins a new message"),
        ({"base_url": "https://x.openai.azure.com/openai/v1"}, {}, "OpenAI's chat begins a new message"),
        ({"endpoint": "responses"}, {}, 'model.endpoint = "responses" takes no text to go on with'),
        ({"mode": "score", "endpoint": "completions"}, {}, 'model.mode = "score" writes no answers'),
        ({"params": {"response_format": {"type": "json_object"}}}, {}, "model.params.response_format says how a text"),
        ({"params": {"tools": [{"type": "function"}]}}, {}, "model.params.tools says how a text begins"),
        ({}, {"transport": {"kind": "replay", "fixtures": "f"}}, 'transport.kind = "replay" asks no server'),
    ],
)
def test_a_job_by_which_nothing_goes_on_is_refused(model: Any, sections: Any, words: str) -> None:
    """With the reason."""
    with pytest.raises(JobError, match="no answer can be gone on from by this job") as caught:
        refuse_job(job_with(model, **sections))

    assert words in str(caught.value)


# requests


def test_the_alternative_stands_behind_the_text_so_far() -> None:
    """In a last message of the assistant, which the server is to continue."""
    body = continuing_request(job_with(), written(), b"body").body

    assert body["messages"] == [*ASKED, {"role": "assistant", "content": "Nobody"}]
    assert body["continue_final_message"] is True
    assert body["add_generation_prompt"] is False


def test_a_message_of_the_assistant_that_was_gone_on_with_is_gone_on_with() -> None:
    """The prompt began the answer itself."""
    begun = [*ASKED, {"role": "assistant", "content": "Well: "}]

    messages = continuing_request(job_with(), written(prompt=begun), b"body").body["messages"]

    assert messages == [*ASKED, {"role": "assistant", "content": "Well: Nobody"}]


def test_an_alternative_may_end_a_character_that_stands_before_it() -> None:
    """The bytes of an emoji over two tokens are one text again."""
    emoji = "\N{GRINNING FACE}".encode()

    body = continuing_request(job_with(), written(text="\N{GRINNING FACE}", before=[emoji[:2]]), emoji[2:]).body

    assert body["messages"][-1]["content"] == "\N{GRINNING FACE}"


def test_white_space_that_a_server_strips_is_sent_as_it_was_written() -> None:
    """The tokens have it, and the text does not."""
    body = continuing_request(job_with(), written(text="No way", before=[b" No"]), b"body").body

    assert body["messages"][-1]["content"] == " Nobody"


@pytest.mark.parametrize(
    ("changes", "alternative", "words"),
    [
        ({"section": "reasoning"}, b"x", "this token is of its reasoning"),
        ({"section": "tool"}, b"x", "this token is of its tool"),
        ({"sections": frozenset({"reasoning", "content"})}, b"x", "the answer followed a reasoning"),
        ({"model": "other"}, b"x", "the answer is by other, and the job asks m"),
        ({"prompt": None}, b"x", "the store does not hold the prompt"),
        ({"prompt": "Hi"}, b"x", 'the prompt is none of the endpoint "chat"'),
        ({"prompt": {"input": "Hi", "questions": []}}, b"x", 'the prompt is none of the endpoint "chat"'),
        ({"before": [b"No", None]}, b"x", "named a token by no text"),
        ({"before": [b"<|channel|>"]}, b"x", "do not spell the answer's text"),
        ({"text": None}, b"x", "do not spell the answer's text"),
        ({}, None, "named a token by no text"),
        ({}, b"", "this token ends the answer"),
        ({}, b"<|im_end|>", "this token ends the answer"),
        ({}, b"</s>", "this token ends the answer"),
        ({}, b"\xf0\x9f", "this token ends within a character"),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused(changes: Any, alternative: bytes | None, words: str) -> None:
    """With the reason."""
    with pytest.raises(InputError) as caught:
        continuing_request(job_with(), written(**changes), alternative)

    assert words in str(caught.value)


# answers


@pytest.mark.parametrize("logprobs", [None, {"content": []}])
def test_a_message_that_is_repeated_alone_is_an_empty_text(logprobs: Any) -> None:
    """As llama.cpp writes it where the model ends at once."""
    request = continuing_request(job_with(), written(), b"body")
    repeated = chat_body([], "Nobody")
    repeated["choices"][0]["logprobs"] = logprobs

    ended = without_echo(answer_to(request, repeated))

    assert ended is not None
    assert b'"content":""' in ended.body


@pytest.mark.parametrize(
    "body", [chat_body([chat_token("x", -1.0, {})], "Nobody"), chat_body([], "Other"), b"{}", b"[]", b"no JSON"]
)
def test_other_answers_stay_as_they_are(body: Any) -> None:
    """Those with tokens, those with another text, and those that are none."""
    request = continuing_request(job_with(), written(), b"body")

    assert without_echo(answer_to(request, body)) is None


def test_an_answer_to_another_request_stays_as_it_is() -> None:
    """Its text happens to be empty, and no message stands before it."""
    assert without_echo(answer_to(chat_request(), chat_body([], "Nobody"))) is None
