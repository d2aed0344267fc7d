"""A server that bills as families of services do, and keeps a ledger in dollars of what it would have charged.

    python tests/faults/billing_server.py --ledger L [--delay-ms 20]

It prints its URL. The model's name chooses the family; what a call takes and how that is reported follow from the
request alone. A bill is written down before a byte of the answer is sent. `PRICES` are in dollars per token. The fault
server (`fault_server.py`) has the other ways in which a call goes wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
from pathlib import Path
from typing import Any, Final

PRICES: Final = {"input": 10e-6, "cached": 2e-6, "output": 30e-6, "written": 12.5e-6}
TIERS: Final = {"default": 1.0, "flex": 0.5, "priority": 2.0}
"""Factors on all prices, by the tier that served a call."""
LONG_ABOVE: Final = 200
"""Tokens of a prompt above which the family `tiers` bills twice the input and 1.5 times the output."""
FAMILIES: Final = (
    "openai", "legacy", "responses", "azure", "vllm", "openrouter", "gemini", "reasoning", "deepseek", "liar", "hidden",
    "tiers", "decisions",
)  # fmt: skip

ABSURD: Final[tuple[Any, ...]] = (
    None, 0, [], "many", {}, {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    {"prompt_tokens": -5, "completion_tokens": -5}, {"prompt_tokens": 1e30, "completion_tokens": 1e30},
    {"prompt_tokens": float("nan"), "completion_tokens": 1}, {"prompt_tokens": {"text": 1}, "completion_tokens": [1]},
    {"prompt_tokens": "few", "completion_tokens": True}, {"tokens": {"prompt_tokens": 1, "completion_tokens": 1}},
)  # fmt: skip
"""What stands as `usage` in the answers of the family `liar`."""


class Call:
    """One call: what it takes, and the answer with what is said about that.

    `prompt`, `cached`, `written` and `completion` are the tokens that are billed, by the tier `served`, `usd` is the
    bill, `status` and `body` the answer; without a body the connection is cut.
    """

    def __init__(self, path: str, asked: dict[str, Any]) -> None:
        self.asked = asked
        self.path = path
        self.chance = random.Random(hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).digest())  # noqa: S311  no secret
        most = asked.get("max_tokens") or asked.get("max_completion_tokens") or asked.get("max_output_tokens") or 5
        self.choices = int(asked.get("n") or 1)
        self.visible = self.chance.randint(1, int(most))
        text = json.dumps(asked.get("messages") or asked.get("prompt") or asked.get("input"))
        self.prompt = self.chance.randint(1, len(text.encode()))
        self.cached = 0
        self.written = 0
        self.served: str | None = None
        self.completion = self.visible * self.choices
        self.extra_usd = 0.0
        self.status = 200
        self.usage: Any = "as it is"
        self.cut = False
        getattr(self, asked["model"])(int(most))

    @property
    def usd(self) -> float:
        """The bill."""
        is_long = self.served is not None and self.prompt > LONG_ABOVE
        bill = (self.prompt - self.cached - self.written) * PRICES["input"]
        bill += self.cached * PRICES["cached"] + self.written * PRICES["written"]
        bill = bill * (2 if is_long else 1) + self.completion * PRICES["output"] * (1.5 if is_long else 1)
        return bill * TIERS[self.served or "default"] + self.extra_usd

    def reported(self) -> Any:
        """The usage that the answer has."""
        if self.usage != "as it is":
            return self.usage
        names = ("input_tokens", "output_tokens") if "input" in self.asked else ("prompt_tokens", "completion_tokens")
        details = {"cached_tokens": self.cached} | ({"cache_write_tokens": self.written} if self.written else {})
        return {
            names[0]: self.prompt,
            names[1]: self.completion,
            "total_tokens": self.prompt + self.completion,
            f"{names[0]}_details": details,
        }

    def free(self, status: int) -> None:
        """Refuse the call, for nothing."""
        self.status, self.prompt, self.completion, self.cached, self.written = status, 0, 0, 0, 0

    # families

    def openai(self, _most: int) -> None:
        """An honest service, with faults that are not billed and answers that are lost."""
        self.cached = self.prompt // 2
        if (fault := self.chance.random()) < 0.1:
            self.free(500)
        elif fault < 0.2:
            self.cut = True

    legacy = responses = openai

    def tiers(self, _most: int) -> None:
        """Tiers, tokens written into the cache, and long prompts, as OpenAI bills them; flex is full at times.

        A call that asks for no tier is served by any but flex, one that asks for flex also by the standard one.
        """
        asked = self.asked.get("service_tier")
        may_serve = {"flex": ["flex", "default"], "priority": ["priority", "default"], "default": ["default"]}
        self.served = self.chance.choice(may_serve.get(asked, ["default", "priority"]))
        self.prompt = self.chance.choice([self.prompt, len(json.dumps(self.asked["messages"]).encode())])
        self.cached = self.chance.choice([0, self.prompt // 3])
        self.written = self.chance.choice([0, self.prompt - self.cached])
        fault = random.random()  # noqa: S311  the same question may be answered when it is asked again
        if asked == "flex" and fault < 0.2:
            self.free(429)
        elif fault < 0.3:
            self.cut = True
        elif fault < 0.4:
            self.usage = {
                "prompt_tokens": 0,
                "input_tokens": self.prompt,
                "output_tokens": self.completion,
                "input_tokens_details": {"cached_tokens": self.cached, "cache_write_tokens": self.written},
            }

    def decisions(self, _most: int) -> None:
        """Typed questions: input alone is billed, and none of it cheaper for having been in the cache."""
        self.completion = self.visible = 0
        details = {"cached_tokens": self.prompt * 9 // 10, "cache_write_tokens": 0}
        self.usage = {"input_tokens": self.prompt, "output_tokens": 4, "input_tokens_details": details}

    def azure(self, _most: int) -> None:
        """Prompts that its filter refuses, prompts that are too long and calls that time out are billed."""
        self.status = self.chance.choice([200, 400, 400, 408, 504])
        self.visible = self.visible if self.status == 200 else 0

    def vllm(self, most: int) -> None:
        """Numbers as text and as fractions, and answers that are as long as they may be."""
        self.visible, self.completion = most, most * self.choices
        spelled = self.chance.choice([str, float, lambda number: number - 0.5])
        self.usage = {"prompt_tokens": spelled(self.prompt), "completion_tokens": spelled(self.completion)}

    def openrouter(self, _most: int) -> None:
        """The dollars, which may be more than the tokens at the job's prices."""
        self.extra_usd = self.chance.choice([0.0, 0.0, 20 * PRICES["output"]])
        self.usage = {"prompt_tokens": self.prompt, "completion_tokens": self.completion, "cost": self.usd}

    def gemini(self, most: int) -> None:
        """One half of the usage, or thoughts in the total alone."""
        self.completion = most * self.choices
        self.usage = self.chance.choice(
            [
                {"prompt_tokens": self.prompt},
                {"prompt_tokens": self.prompt, "completion_tokens": None},
                {"completion_tokens": self.completion},
                {"prompt_tokens": self.prompt, "completion_tokens": 1, "total_tokens": self.prompt + self.completion},
            ]
        )

    def reasoning(self, most: int) -> None:
        """Hidden tokens that are no part of the completion, and only named in the details."""
        self.visible = max(1, most // 4)
        hidden = most * self.choices - self.visible * self.choices
        self.completion = self.visible * self.choices + hidden
        self.usage = {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.visible * self.choices,
            "completion_tokens_details": {"reasoning_tokens": hidden},
        }

    def deepseek(self, _most: int) -> None:
        """Hits and misses of its cache."""
        self.cached = self.chance.randint(0, self.prompt)
        self.usage = {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "prompt_cache_hit_tokens": self.cached,
            "prompt_cache_miss_tokens": self.prompt - self.cached,
        }

    def liar(self, most: int) -> None:
        """As much as the request allows, and no word about it that is true."""
        self.completion = most * self.choices
        self.usage = self.chance.choice(ABSURD)

    def hidden(self, most: int) -> None:
        """A long prompt of its own before each, and reasoning beyond the maximum."""
        self.prompt += 400
        self.completion += 3 * most


def answer_of(call: Call) -> bytes:
    """The body of an answer with as many tokens as are visible."""
    if call.status != 200:
        code = {400: "content_filter", 429: "resource_unavailable"}.get(call.status)
        return json.dumps({"error": {"message": "refused", "code": code}}).encode()
    words = [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []} for _ in range(call.visible)]
    text = "a" * call.visible
    usage = call.reported()
    if "questions" in call.asked:
        answers = [{"type": "predicate", "name": one["name"], "probability": 0.5} for one in call.asked["questions"]]
        return json.dumps({"model": "m", "answers": answers, "usage": usage}).encode()
    if "input" in call.asked:
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": words}
        item = {"id": "i", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        return json.dumps({"object": "response", "status": "completed", "output": [item], "usage": usage}).encode()
    legacy = {"tokens": list(text), "token_logprobs": [-0.5] * len(text), "top_logprobs": None, "text_offset": None}
    one = {"text": text} if "prompt" in call.asked else {"message": {"role": "assistant", "content": text}}
    held = legacy if "prompt" in call.asked else {"content": words}
    listed = [{"index": number, **one, "logprobs": held, "finish_reason": "stop"} for number in range(call.choices)]
    kind = "text_completion" if "prompt" in call.asked else "chat.completion"
    tier = {} if call.served is None else {"service_tier": call.served}
    return json.dumps({"object": kind, "model": "m", "choices": listed, "usage": usage, **tier}).encode()


async def main() -> None:
    """Serve until the process ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--delay-ms", type=float, default=20.0)
    options = parser.parse_args()
    ledger = options.ledger.open("a", encoding="utf-8")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:"))
                asked = json.loads(await reader.readexactly(int(length.split(":")[1])))
                call = Call(head.split()[1], asked)
                bill = {"usd": call.usd, "status": call.status, "tier": call.served, "asked": asked.get("service_tier")}
                bill |= {"answered": call.status == 200 and not call.cut}
                ledger.write(json.dumps({"family": asked["model"], **bill}) + "\n")
                ledger.flush()
                await asyncio.sleep(options.delay_ms / 1000)
                body = answer_of(call)
                start = f"HTTP/1.1 {call.status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
                writer.write(f"{start}\r\n\r\n".encode() + (body[:20] if call.cut else body))
                await writer.drain()
                if call.cut:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 22, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)  # noqa: T201  for who started it
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
