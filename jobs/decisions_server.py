"""The real model of `local_server.py` behind `/v1/decisions`, for as long as a command runs.

    python jobs/decisions_server.py [--port 8081] -- COMMAND ...

Needs the extra `local`. Each question is put behind its instructions and the input, and each option's probability is
read from the model's own scores of the next token, as SGLang does it: nothing is generated. An option is told from the
others by its first token, so that two options that begin with one token are refused, and so is anything but a text as
the input. `{url}` in the command becomes the base URL. Without a command the server runs until interrupted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from local_server import MODEL, STOP_S, serving

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_SCORES = 2000
"""Tokens whose score is asked for; an option beyond these has the probability 0."""
DIGITS = 6


class RefusedError(Exception):
    """The request cannot be answered; the text says why."""


class Model:
    """The scores of the next token, by the server at a base URL.

    Args:
        url: of the llama.cpp server, up to and with `/v1`.
    """

    def __init__(self, url: str) -> None:
        self._url = url.removesuffix("/v1")
        self._first_tokens: dict[str, int] = {}

    def decide(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request.

        Raises:
            RefusedError: it is none that this server can answer.
        """
        asked, questions = body.get("input"), body.get("questions")
        if not isinstance(asked, str) or not isinstance(questions, list) or not questions:
            raise RefusedError("input must be a text, and questions a list")
        answers, used = [], 0
        for question in questions:
            prompt = f"{question['instructions']}{asked}"
            probabilities, tokens = self._shares(prompt, [str(option) for option in _options(question)])
            answers.append(_answer(question, probabilities))
            used += tokens
        usage = {
            "input_tokens": used,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": used,
        }
        return {"model": body.get("model"), "answers": answers, "usage": usage}

    def _shares(self, prompt: str, options: Sequence[str]) -> tuple[list[float], int]:
        """The probability of each option among all of them, and the tokens of the prompt."""
        # Without its cache: a prompt that goes on from a cached one is computed in other pieces, and rounded otherwise.
        asked = {"prompt": prompt, "n_predict": 1, "n_probs": MOST_SCORES, "temperature": 0, "cache_prompt": False}
        answer = self._post("/completion", asked)
        scores = {one["id"]: one["logprob"] for one in answer["completion_probabilities"][0]["top_logprobs"]}
        tokens = [self._first_token(option) for option in options]
        if len(set(tokens)) < len(tokens):
            raise RefusedError("two options begin with the same token")
        masses = [math.exp(scores.get(token, -math.inf)) for token in tokens]
        total = sum(masses) or 1.0
        return [round(mass / total, DIGITS) for mass in masses], answer["tokens_evaluated"]

    def _first_token(self, option: str) -> int:
        if option not in self._first_tokens:
            found = self._post("/tokenize", {"content": f" {option}", "add_special": False})["tokens"]
            self._first_tokens[option] = found[0]
        return self._first_tokens[option]

    def _post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(  # noqa: S310  loopback
            self._url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as response:  # noqa: S310
            return json.load(response)


def _options(question: Mapping[str, Any]) -> list[Any]:
    """What the next token may begin: yes and no of a predicate, the values of a choice, the labels of a score."""
    if question["type"] == "predicate":
        return ["yes", "no"]
    if question["type"] == "choice":
        return [option["value"] for option in question["choices"]]
    return [level["label"] for level in question["levels"]]


def _answer(question: Mapping[str, Any], probabilities: Sequence[float]) -> dict[str, Any]:
    named = {"type": question["type"], "name": question.get("name")}
    if question["type"] == "predicate":
        return {**named, "probability": probabilities[0]}
    options, confidence = _options(question), max(probabilities)
    if question["type"] == "choice":
        listed = [{"value": value, "probability": p} for value, p in zip(options, probabilities, strict=True)]
        choice = options[probabilities.index(confidence)]
        return {**named, "choice": choice, "probabilities": listed, "confidence": confidence}
    levels = [{"value": n, "label": one, "probability": probabilities[n]} for n, one in enumerate(options)]
    score = round(sum(n * p for n, p in enumerate(probabilities)), DIGITS)
    return {**named, "score": score, "probabilities": levels, "confidence": confidence}


def answering(model: Model, port: int) -> ThreadingHTTPServer:
    """A server for `/v1/decisions`, which answers with this model; the caller starts and ends it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Write nothing."""

        def do_POST(self) -> None:
            """Answer one request."""
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not self.path.endswith("/decisions"):
                return self._send(404, {"error": {"message": "Not Found", "code": 404}})
            try:
                return self._send(200, model.decide(json.loads(body)))
            except (RefusedError, KeyError, ValueError) as error:
                return self._send(400, {"error": {"message": str(error), "type": "invalid_request_error"}})

        def _send(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def main() -> int:
    """Serve, run the command, stop serving, and pass on the command's exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes any free one")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    command = [part for part in arguments.command if part != "--"]
    ours = os.dup(2)  # llama.cpp writes its own log to standard error
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    # One prompt at a time: what is computed beside another prompt is rounded otherwise, and the scores count here.
    with serving(parallel=1) as model_url, answering(Model(model_url), arguments.port) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        os.write(ours, f"serving decisions of {MODEL} at {url}\n".encode())
        try:
            while not command:
                time.sleep(0.5)
            return subprocess.run([part.replace("{url}", url) for part in command], stderr=ours, check=False).returncode  # noqa: S603
        finally:
            server.shutdown()


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        signal.alarm(STOP_S)
        sys.exit(130)
