"""What other tools leave on disk: each kind gives its answers with their prompts, and what is no answer is said."""

from __future__ import annotations

import base64
import gzip
import io
import json
import sys
import zipfile
from typing import Any

import pytest
import yaml
from importing.recorded import URL, cassette, jsonl, recorded_body, recorded_chunks, recorded_request

from logprob_store.errors import InputError
from logprob_store.importing.readers.registry import READERS
from logprob_store.request import request_key


def asked(importing: Any) -> list[Any]:
    """The prompts, parsed."""
    return [text and json.loads(text) for text in importing.frames()["prompts"].sort("prompt_index")["messages"]]


def test_a_cassette_as_json(importing: Any) -> None:
    """Request and response of each call; the request has the key of a run."""
    calls = [(json.dumps(recorded_request(n)), {"string": json.dumps(recorded_body(n))}) for n in range(2)]
    importing.content(json.dumps(cassette(*calls), indent=1), name="cassette.json")
    rows = importing.frames()

    assert importing.texts == ["n0!", "n1!"]
    assert asked(importing) == [recorded_request(n)["messages"] for n in range(2)]
    assert rows["completions"]["request_key"].to_list() == [
        request_key(recorded_request(n), endpoint="chat", provider="https://api.openai.com:443/v1") for n in range(2)
    ]
    assert rows["imports"]["place"].to_list() == ["1[0]", "1[1]"]


@pytest.mark.parametrize(
    "written",
    [
        lambda body: {"string": body},
        lambda body: {"string": body.encode()},
        lambda body: {"string": gzip.compress(body.encode())},
        lambda body: {"base64_string": base64.b64encode(gzip.compress(body.encode())).decode()},
        lambda body: body,
    ],
    ids=["text", "bytes", "gzip", "base64", "bare"],
)
def test_a_cassette_as_yaml(importing: Any, written: Any) -> None:
    """Vcrpy writes YAML, and bytes where the body is no UTF-8."""
    body = json.dumps(recorded_body(0))
    content = yaml.safe_dump(cassette((json.dumps(recorded_request(0)).encode(), written(body))))
    importing.content(content, name="cassette.yaml")

    assert importing.texts == ["n0!"]
    assert asked(importing) == [recorded_request(0)["messages"]]


def test_a_cassette_of_a_stream_and_of_a_refusal(importing: Any) -> None:
    """A recorded stream is merged; a status other than 2xx is a failure."""
    events = "".join(f"data: {json.dumps(piece)}\n\n" for piece in recorded_chunks(0)) + "data: [DONE]\n\n"
    importing.content(json.dumps(cassette((json.dumps(recorded_request(0)), {"string": events}))), name="a.json")
    refusal = {"string": '{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}'}
    importing.content(json.dumps(cassette((json.dumps(recorded_request(1)), refusal), status=429)), name="b.json")

    assert importing.texts == ["n0!"]
    assert [error_type for _, error_type in importing.open_failures] == ["rate_limit"]


def test_calls_that_are_not_to_a_model_are_left_out(importing: Any) -> None:
    """A cassette holds all that a program asked for; one without any model is a failure that says so."""
    other = (None, {"string": '{"object": "list", "data": [{"id": "gpt-4o"}]}'})
    call = (json.dumps(recorded_request(0)), {"string": json.dumps(recorded_body(0))})
    files = {"a.json": cassette(other, call, other), "b.json": cassette(other)}
    importing(*(importing.file(name, json.dumps(content)) for name, content in files.items()))

    assert importing.texts == ["n0!"]
    assert [error_type for _, error_type in importing.open_failures] == ["unknown_format"]


def test_yaml_without_the_extra(importing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "yaml", None)

    with pytest.raises(InputError, match=r"is YAML: yaml is not installed.*logprob-store\[yaml\]"):
        importing.content("interactions:\n- request: {}\n", name="cassette.yaml")


def test_yaml_that_is_no_cassette(importing: Any) -> None:
    """It is a file of no known format."""
    with pytest.raises(InputError, match="is no JSON and no stream of events"):
        importing.content("model: gpt-4o\nseed: 1\n", name="job.yaml")


def test_folders_are_searched_for_cassettes(importing: Any) -> None:
    """Other YAML files of a folder, such as settings, are not read."""
    content = yaml.safe_dump(cassette((json.dumps(recorded_request(0)), {"string": json.dumps(recorded_body(0))})))
    importing.file("in/cassette.yaml", content)
    importing.file("in/settings.yaml", "seed: 1\n")
    done = importing(importing.folder / "in")

    assert (done.files, done.failures) == (1, 0)
    assert importing.texts == ["n0!"]


def test_a_cassette_of_ruby(importing: Any) -> None:
    """VCR for Ruby has other keys, and the time of the call."""
    request = {"method": "post", "uri": URL, "body": {"encoding": "UTF-8", "string": json.dumps(recorded_request(0))}}
    body = {"encoding": "UTF-8", "string": json.dumps(recorded_body(0))}
    call = {"request": request, "response": {"status": {"code": 200}, "body": body}}
    importing.content(yaml.safe_dump({"http_interactions": [call], "recorded_with": "VCR 6"}), name="c.yml")

    assert importing.texts == ["n0!"]


@pytest.mark.parametrize("encoding", [None, "base64"])
def test_a_har_file(importing: Any, encoding: str | None) -> None:
    """The calls of a browser or a proxy."""
    text = json.dumps(recorded_body(0))
    content = {"mimeType": "application/json", "text": text}
    if encoding:
        content = {**content, "text": base64.b64encode(text.encode()).decode(), "encoding": encoding}
    post = {"method": "POST", "url": URL, "postData": {"text": json.dumps(recorded_request(0))}}
    entries = [
        {"request": {"method": "GET", "url": "https://h/style.css"}, "response": {"status": 200, "content": {}}},
        {"startedDateTime": "2026-01-01T00:00:00Z", "request": post, "response": {"status": 200, "content": content}},
    ]
    importing.content(json.dumps({"log": {"version": "1.2", "entries": entries}}, indent=1), name="traffic.har")

    assert importing.texts == ["n0!"]
    assert asked(importing) == [recorded_request(0)["messages"]]


def sample(number: int, **more: Any) -> dict[str, Any]:
    """A sample of Inspect."""
    [choice] = recorded_body(number)["choices"]
    output = {
        "model": "m-1",
        "choices": [{"message": choice["message"], "stop_reason": "stop", "logprobs": choice["logprobs"]}],
        "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
    }
    return {"id": number, "epoch": 1, "input": f"question {number}", "target": "", "output": output, **more}


def test_a_log_of_inspect(importing: Any) -> None:
    """The output of each sample, with the sample's id and input; a sample that failed is a failure."""
    failed = {"id": 9, "epoch": 1, "input": "q", "output": {"choices": []}, "error": {"message": "timed out"}}
    log = {"version": 2, "status": "success", "eval": {"task": "t"}, "samples": [sample(0), failed]}
    importing.content(json.dumps(log, indent=1), name="log.json")
    rows = importing.frames()

    assert importing.texts == ["n0!"]
    assert rows["completions"].select("prompt_id", "prompt_tokens", "finish_reason").row(0) == ("0", 3, "stop")
    assert asked(importing) == ["question 0", "q"]
    assert rows["failures"].select("prompt_id", "message").row(0) == ("9", "no response: timed out")


def test_equal_answers_in_two_epochs_of_inspect(importing: Any) -> None:
    """They are two samples of one prompt."""
    done = importing.lines(sample(0), {**sample(0), "epoch": 2})

    assert done.added == 2
    assert importing.frames()["completions"]["sample_index"].to_list() == [0, 1]


def test_an_eval_archive_of_inspect(importing: Any) -> None:
    """Of the files in the archive the samples are read, and the places name them."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({"eval": {}, "status": "success"}))
        archive.writestr("summaries.json", "[]")
        for number in range(2):
            archive.writestr(f"samples/{number}_epoch_1.json", json.dumps(sample(number), indent=1))
    importing.content(packed.getvalue(), name="log.eval")

    assert importing.texts == ["n0!", "n1!"]
    assert importing.frames()["imports"]["place"].to_list() == [f"samples/{n}_epoch_1.json:1" for n in range(2)]


def test_model_calls_inside_a_sample(importing: Any) -> None:
    """Calls before the last one are answers if they have logprobs; attached texts are put in their place."""
    earlier = sample(5)["output"]
    earlier["choices"][0]["message"] = {"role": "assistant", "content": "attachment://abc"}
    silent = {"choices": [{"message": {"content": "no logprobs"}}]}
    final = sample(0)
    events = [{"event": "model", "input": "before", "output": output} for output in (earlier, silent, final["output"])]
    final |= {"events": events, "attachments": {"abc": "n5!"}}
    importing.content(json.dumps(final))

    assert importing.texts == ["n0!", "n5!"]
    assert importing.frames()["prompts"]["prompt_id"].to_list() == ["0", "0/1"]


def test_messages_of_langchain(importing: Any) -> None:
    """`dumpd`, `message_to_dict` and `model_dump` of an AI message; messages of others are no answers."""
    [choice] = recorded_body(0)["choices"]
    metadata = {
        "model_name": "m-1",
        "finish_reason": "stop",
        "logprobs": choice["logprobs"],
        "token_usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }
    fields = {"content": "n0!", "response_metadata": metadata, "id": "run-1"}
    path = ["langchain", "schema", "messages", "AIMessage"]
    written = [
        {"lc": 1, "type": "constructor", "id": path, "kwargs": fields},
        {"type": "ai", "data": {**fields, "id": "run-2"}},
        {"type": "ai", **fields, "id": "run-3", "additional_kwargs": {}},
    ]
    human = {"lc": 1, "type": "constructor", "id": [*path[:-1], "HumanMessage"], "kwargs": {"content": "hi"}}
    done = importing.lines(human, *written)
    rows = importing.frames()["completions"]

    assert (done.records, done.failures) == (3, 0)
    assert importing.texts == ["n0!"] * 3
    assert rows.select("response_id", "response_model", "completion_tokens").rows() == [
        (f"run-{n}", "m-1", 2) for n in (1, 2, 3)
    ]


def test_messages_of_langchain_from_gemini(importing: Any) -> None:
    """The logprobs are as Gemini's SDK has them (langchain-ai/langchain-google pull request 570)."""
    result = {
        "chosen_candidates": [{"token": "J", "log_probability": -0.5}, {"token": "'", "log_probability": -4e-05}],
        "top_candidates": [{"candidates": [{"token": "J", "log_probability": -0.5}]}, {}],
    }
    message = {"content": "J'", "type": "ai", "response_metadata": {"logprobs_result": result}, "id": "run-1"}
    importing.lines({"lc": 1, "type": "constructor", "id": ["langchain", "AIMessage"], "kwargs": message})
    rows = importing.frames()

    assert importing.texts == ["J'"]
    assert rows["tokens"].sort("position")["logprob"].to_list() == [-0.5, -4e-05]
    assert rows["alternatives"]["token"].to_list() == ["J"]


def test_results_of_langchain(importing: Any) -> None:
    """The generations of one prompt are choices of one answer."""
    choices = [recorded_body(n)["choices"][0] for n in range(2)]
    generations = [
        {"text": one["message"]["content"], "generation_info": {"logprobs": one["logprobs"], "finish_reason": "stop"}}
        for one in choices
    ]
    importing.lines({"generations": [generations], "llm_output": {"model_name": "m"}, "run": None})

    assert importing.texts == ["n0!", "n1!"]
    assert importing.frames()["completions"]["choice_index"].to_list() == [0, 1]


def test_payloads_of_litellm(importing: Any) -> None:
    """Messages and parameters are the request; a failure is one with LiteLLM's words."""
    request = recorded_request(0)
    payload = {"id": "x", "call_type": "acompletion", "model": request["model"], "messages": request["messages"]}
    parameters = {"logprobs": True, "top_logprobs": 1}
    failed = {**payload, "messages": [], "status": "failure", "response": {}, "error_str": "no quota"}
    importing.lines(
        {**payload, "response": recorded_body(0), "model_parameters": parameters, "status": "success"}, failed
    )
    rows = importing.frames()

    assert importing.texts == ["n0!"]
    assert rows["completions"]["request_key"].to_list() == [request_key(request, endpoint="chat", provider="import")]
    assert rows["failures"]["message"].to_list() == ["no response: no quota"]


def test_pages_of_stored_completions(importing: Any) -> None:
    """Each element of `data` is an answer; an empty page says so."""
    page = {
        "object": "list",
        "data": [recorded_body(0), recorded_body(1)],
        "first_id": "a",
        "last_id": "b",
        "has_more": False,
    }
    empty = importing.file("empty.json", json.dumps({**page, "data": []}))
    importing(importing.file("page.json", json.dumps(page, indent=1)), empty)

    assert importing.texts == ["n0!", "n1!"]
    assert "a page of a list without any answers" in importing.frames()["failures"]["message"][0]


def test_batches_of_bedrock(importing: Any) -> None:
    """The record's id names the prompt; the input file gives requests without an answer."""
    asked_for = importing.jsonl(
        "in.jsonl", *({"recordId": f"r{n}", "modelInput": recorded_request(n)} for n in range(3))
    )
    good = {"recordId": "r0", "modelInput": recorded_request(0), "modelOutput": recorded_body(0)}
    error = {"errorCode": 400, "errorMessage": "bad input"}
    output = importing.jsonl("out.jsonl", good, {"recordId": "r1", "modelInput": recorded_request(1), "error": error})
    importing(asked_for, output)

    assert importing.texts == ["n0!"]
    assert importing.open_failures == [("r1", "no_answer"), ("r2", "no_answer")]
    assert "bad input" in importing.frames()["failures"].sort("prompt_id")["message"][0]


def gemini_body(text: str) -> dict[str, Any]:
    """A body of generateContent."""
    chosen = [{"token": text, "tokenId": 5, "logProbability": -0.5}]
    candidate = {"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}
    return {"candidates": [{**candidate, "logprobsResult": {"chosenCandidates": chosen}}]}


def test_batches_of_gemini(importing: Any) -> None:
    """Lines with a key, or with the key in their metadata; the request file gives requests without an answer."""
    request = {"contents": [{"parts": [{"text": "q"}]}], "generationConfig": {"responseLogprobs": True}}
    asked_for = importing.jsonl("in.jsonl", *({"key": f"k{n}", "request": request} for n in range(4)))
    output = importing.jsonl(
        "out.jsonl",
        {"key": "k0", "response": gemini_body("a")},
        {"response": gemini_body("b"), "metadata": {"key": "k1"}},
        {"key": "k2", "error": {"code": 429, "message": "exhausted", "status": "RESOURCE_EXHAUSTED"}},
    )
    importing(asked_for, output)

    assert importing.texts == ["a", "b"]
    assert importing.open_failures == [("k2", "rate_limit"), ("k3", "no_answer")]


def test_a_failed_line_of_vertex(importing: Any) -> None:
    """A line whose response is empty has the reason in `status`."""
    importing.lines({"request": {"contents": []}, "response": {}, "status": "Bad Request: no such model"})

    assert importing.frames()["failures"]["message"].to_list() == ["no response: Bad Request: no such model"]


def test_samples_of_lm_eval_are_named(importing: Any) -> None:
    """They hold no tokens, and the failure says so."""
    importing.lines({"doc_id": 3, "doc": {}, "arguments": {}, "resps": [[["-1.5", "False"]]], "filtered_resps": []})

    assert importing.open_failures == [("3", "no_logprobs")]
    assert "lm-evaluation-harness" in importing.frames()["failures"]["message"][0]


@pytest.mark.parametrize(
    ("request_body", "response"),
    [
        (
            {"contents": [], "generationConfig": {"responseLogprobs": True, "logprobs": 2}},
            {"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP", "avgLogprobs": -0.5}]},
        ),
        (
            {"text": "q", "return_logprob": True},
            {"text": "a", "meta_info": {"id": "x", "finish_reason": {"type": "stop"}, "completion_tokens": 1}},
        ),
        (
            {"url": "/completion", "body": {"prompt": "q", "n_probs": 3}},
            {"content": "a", "stop": True, "tokens_predicted": 1},
        ),
        ({"inputs": "q", "parameters": {"details": True}}, {"generated_text": "a"}),
        ({"model": "m", "prompt": "q", "logprobs": True}, {"model": "m", "response": "a", "done": True}),
        (
            {"model_id": "m", "input": "q", "parameters": {"return_options": {"token_logprobs": True}}},
            {"model_id": "m", "results": [{"generated_text": "a", "stop_reason": "eos_token"}]},
        ),
    ],
    ids=["Gemini", "SGLang", "llama.cpp", "TGI", "Ollama", "watsonx"],
)
def test_logprobs_asked_natively(importing: Any, request_body: Any, response: Any) -> None:
    """A pair that asked a server in its own way and got none is a failure."""
    importing.lines({"request": request_body, "response": response})

    assert [error_type for _, error_type in importing.open_failures] == ["no_logprobs"]


def test_a_bare_response_without_logprobs(importing: Any) -> None:
    """Where the request is not known, an answer of the Responses API without logprobs is one like any other."""
    content = [{"type": "output_text", "text": "a", "logprobs": []}]
    body = {"id": "resp", "object": "response", "status": "completed"}
    importing.lines({**body, "output": [{"type": "message", "content": content}]})

    assert importing.open_failures == [("resp", "no_logprobs")]


def test_a_bare_body_with_logprobs_of_its_prompt_alone(importing: Any) -> None:
    """It was asked for these and nothing else, so nothing is missing."""
    prompt = [None, {"5": {"logprob": -2.5, "rank": 1, "decoded_token": "x"}}]
    choice = {"index": 0, "text": "", "finish_reason": "length", "logprobs": None, "prompt_logprobs": prompt}
    importing.lines({"id": "c", "object": "text_completion", "choices": [choice]})

    assert importing.open_failures == []
    assert importing.frames()["tokens"]["token"].to_list() == ["x"]


def test_an_archive_of_other_files(importing: Any) -> None:
    """Any files that can be imported may lie in a zip archive; a damaged one is a failure."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a/one.jsonl", jsonl(recorded_body(0), recorded_body(1)))
        archive.writestr("two.json", json.dumps(recorded_body(2)))
    importing.content(packed.getvalue(), name="answers.zip")
    importing.content(packed.getvalue()[:-60], name="damaged.zip")

    assert importing.texts == ["n0!", "n1!", "n2!"]
    assert importing.open_failures == [("damaged.zip:1", "bad_line")]


def test_no_reader_takes_an_answer_for_its_own() -> None:
    """Bodies, chunks and errors are left to the wire formats."""
    for value in (recorded_body(0), *recorded_chunks(0), gemini_body("a"), {"error": {"message": "no"}}):
        assert [reader for reader in READERS if reader.recognises(value)] == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_files_of_one_name_in_an_archive(importing: Any) -> None:
    """Both are read; what macOS leaves beside them is not."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("__MACOSX/._a.jsonl", b"\x00\x05\x16\x07")
        for number in range(2):
            archive.writestr("a.jsonl", json.dumps(recorded_body(number)))
    done = importing.content(packed.getvalue(), name="a.zip")

    assert importing.texts == ["n0!", "n1!"]
    assert done.failures == 0


def test_a_damaged_bzip2_member_costs_itself_alone(importing: Any) -> None:
    """What the library raises for it is no error of zip archives."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.jsonl", json.dumps(recorded_body(0)))
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("b.jsonl", json.dumps(recorded_body(1)))
    content = packed.getvalue().replace(b"BZh9", b"BZx9", 1)
    importing.content(content, name="a.zip")

    assert importing.texts == ["n1!"]
    assert len(importing.open_failures) == 1


@pytest.mark.parametrize("value", ["2024-02-30", "{2024-01-01: 1}", "&a [*a]", "9" * 5000])
def test_yaml_that_no_json_can_be_is_a_failure(importing: Any, value: str) -> None:
    """Impossible dates, dates as keys and values that hold themselves end no import."""
    importing.file("a.yaml", f"interactions: {value}\nversion: 1\n")
    importing.jsonl("b.jsonl", recorded_body(1))
    importing(importing.folder / "a.yaml", importing.folder / "b.jsonl")

    assert importing.texts == ["n1!"]


@pytest.mark.parametrize("url", ["http://x:99999999/v1", "http://x:port/v1", "http://[bad/v1"])
def test_a_url_that_cannot_be_names_no_service(importing: Any, url: str) -> None:
    """The answer is imported all the same."""
    request = {"url": f"{url}/chat/completions", "method": "POST", "body": recorded_request(0)}
    importing.lines({"request": request, "response": recorded_body(0)}, {"request": {}, "response": recorded_body(1)})

    assert "n0!" in importing.texts


def in_base64(content: bytes) -> dict[str, str]:
    """A recorded body that is no text."""
    return {"base64_string": base64.b64encode(content).decode()}


def test_a_call_that_cannot_be_read_costs_itself_alone(importing: Any) -> None:
    """A body packed with brotli, a damaged one and one that is no base64 are failures, and the one behind is read."""
    good = {"string": json.dumps(recorded_body(0))}
    bodies = [in_base64(b"\x1b\x0f\x00\xf8"), in_base64(gzip.compress(b"{}")[:-9] + b"x"), {"base64_string": "A"}, good]
    importing.content(json.dumps(cassette(*((json.dumps(recorded_request(n)), body) for n, body in enumerate(bodies)))))
    messages = importing.frames()["failures"].sort("prompt_index")["message"].to_list()

    assert importing.texts == ["n0!"]
    assert [message.partition(": ")[2][:40] for message in messages] == [
        "the recorded body is no text, and not co",
        "the recorded body is compressed and dama",
        "the recorded body is no base64: Invalid ",
    ]


def test_uploads_and_pictures_are_no_failures(importing: Any) -> None:
    """A request of bytes is not known, and a call that is none to a model is left out whatever it answers."""
    transcript = {"text": "a", "logprobs": recorded_body(0)["choices"][0]["logprobs"]["content"]}
    upload = (in_base64(b"\xff\xfb\x90"), {"string": json.dumps(transcript)})
    importing.content(json.dumps(cassette(upload, (None, in_base64(b"\x89PNG\xff")))))

    assert importing.frames()["tokens"]["token"].to_list() == ["n0", "!"]
    assert importing.open_failures == []


def langchain_chunks(*, ended: bool = True) -> list[dict[str, Any]]:
    """The chunks of a streamed message as LangChain dumps them."""
    made = []
    for piece in recorded_chunks(0) if ended else recorded_chunks(0)[:-1]:
        [choice] = piece["choices"]
        metadata = {key: choice[key] for key in ("logprobs", "finish_reason") if choice[key] is not None}
        kwargs = {"content": choice["delta"].get("content", ""), "response_metadata": metadata, "id": "run--1"}
        path = ["langchain", "schema", "messages", "AIMessageChunk"]
        made.append({"lc": 1, "type": "constructor", "id": path, "kwargs": kwargs})
    return made


def test_chunks_of_a_message_of_langchain(importing: Any) -> None:
    """They are one answer, not one each; without their end they are a failure, as any stream is."""
    importing.lines(*langchain_chunks(), name="whole.jsonl")
    importing.lines(*langchain_chunks(ended=False), name="cut.jsonl")

    assert importing.texts == ["n0!"]
    assert importing.frames()["tokens"]["token"].to_list() == ["n0", "!"]
    assert [kind for _, kind in importing.open_failures] == ["malformed_answer"]
