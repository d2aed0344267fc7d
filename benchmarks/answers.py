"""Chat completions as OpenAI's servers write them, made up: the bodies that the benchmarks ask for.

Holds a vocabulary, its probabilities and the JSON. Token texts follow Zipf's law, a few of them outside ASCII; logprobs
are 32-bit floats widened to 64, as on the wire, so that they have 17 digits. Real ones differ from each other by
multiples of 1/16, which compresses better; these do not, so no size here is flattered. All of it follows from the seed.
"""

from __future__ import annotations

import json
import math
import random
import struct
from typing import Final, NamedTuple


class Size(NamedTuple):
    """What an answer holds; `pool` is how many different ones there are."""

    tokens: int
    top: int
    pool: int

    @property
    def model(self) -> str:
        """The name of the model that answers so."""
        return f"bench-{self.tokens}x{self.top}"


# The pools are larger than a part of the store, so that no answer meets its copy in one compressed block.
SMALL: Final = Size(tokens=1, top=5, pool=4096)
MEDIUM: Final = Size(tokens=128, top=5, pool=1024)
LARGE: Final = Size(tokens=128, top=20, pool=512)
SIZES: Final = {"1 x 5": SMALL, "128 x 5": MEDIUM, "128 x 20": LARGE}

_VOCABULARY: Final = 20_000
_SYLLABLES: Final = ("an", "ber", "con", "de", "er", "ing", "ka", "lo", "men", "ni", "or", "pre", "s", "ti", "un", "é")
_SIGNS: Final = (
    ".",
    ",",
    "\n",
    "\n\n",
    " -",
    " (",
    ")",
    ":",
    '"',
    "'s",
    "\\",
    " 東京",
    " 🙂",
    "ü",
    " 42",
    "0",
    "1",
    " **",
)
_FILLER: Final = {
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}


def make_bodies(size: Size, *, count: int | None = None, seed: int = 0) -> list[bytes]:
    """Different answers of one size, `size.pool` of them by default.

    >>> body = make_bodies(SMALL, count=1)[0]
    >>> len(json.loads(body)["choices"][0]["logprobs"]["content"][0]["top_logprobs"])
    5
    """
    chance = random.Random(f"{size.tokens}x{size.top}-{seed}")  # noqa: S311  no secrets are made here
    words = _vocabulary()
    starts = [_start(word) for word in words]
    ends = [_end(word) for word in words]
    # Ranks by Zipf's law: the logarithm of a rank is uniform.
    top_rank = math.log(len(words))
    made = []
    for number in range(size.pool if count is None else count):
        text = []
        items = []
        for _ in range(size.tokens):
            chosen = [int(math.exp(chance.random() * top_rank)) - 1 for _ in range(size.top)]
            values = _logprobs(chance, size.top)
            listed = [starts[word] + repr(value) + ends[word] + "}" for word, value in zip(chosen, values, strict=True)]
            items.append(f'{listed[0][:-1]},"top_logprobs":[{",".join(listed)}]}}')
            text.append(words[chosen[0]])
        made.append(_body(size, number, "".join(text), ",".join(items)))
    return made


def _vocabulary() -> list[str]:
    chance = random.Random("vocabulary")  # noqa: S311
    words = dict.fromkeys(_SIGNS)
    while len(words) < _VOCABULARY:
        space = " " if chance.random() < 0.7 else ""
        words[space + "".join(chance.choices(_SYLLABLES, k=chance.randint(1, 3)))] = None
        words[space + str(len(words))] = None
    listed = list(words)
    chance.shuffle(listed)
    return listed


def _start(word: str) -> str:
    return f'{{"token":{json.dumps(word, ensure_ascii=False)},"logprob":'


def _end(word: str) -> str:
    return f',"bytes":{json.dumps(list(word.encode()), separators=(",", ":"))}'


def _logprobs(chance: random.Random, top: int) -> list[float]:
    """The most probable first; their probabilities sum to a little less than 1."""
    gaps = [0.0]
    for _ in range(top - 1):
        gaps.append(gaps[-1] - chance.expovariate(1.2))
    total = math.log(sum(map(math.exp, gaps)) * (1 + 0.02 * chance.random()))
    return list(struct.unpack(f"{top}f", struct.pack(f"{top}f", *[gap - total for gap in gaps])))


def _body(size: Size, number: int, text: str, items: str) -> bytes:
    usage = {"prompt_tokens": 21, "completion_tokens": size.tokens, "total_tokens": 21 + size.tokens, **_FILLER}
    return (
        f'{{"id":"chatcmpl-{number:012d}","object":"chat.completion","created":{1_790_000_000 + number},'
        f'"model":"{size.model}","choices":[{{"index":0,"message":{{"role":"assistant",'
        f'"content":{json.dumps(text, ensure_ascii=False)},"refusal":null,"annotations":[]}},'
        f'"logprobs":{{"content":[{items}],"refusal":null}},"finish_reason":"length"}}],'
        f'"usage":{json.dumps(usage, separators=(",", ":"))},'
        '"service_tier":"default","system_fingerprint":"fp_560af6e559"}'
    ).encode()
