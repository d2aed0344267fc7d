"""A store full of text that would harm a page that took it for anything else, made as every store is made.

    python tests/browser/hostile_store.py FOLDER

makes it in `FOLDER/store` to look at. Its runs are `night.1` and `-night_2`, which answer the same prompts otherwise,
and `decided`, the answers to typed questions. Hostile are the prompts' ids, their text, kept columns and their names,
tokens, alternatives, labels, the names of models and questions, and the messages of errors.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from browser.stores import SOME_FAILED, run_recorded
from builders import chat_body, chat_token, choice_of, chosen, decisions_body, predicate, write_job, write_prompts

if TYPE_CHECKING:
    from logprob_store.request import Request

SCRIPT: Final = "<script>alert(1)</script>"
END_SCRIPT: Final = "</script><script>alert(1)</script>"
ONE_MEGABYTE: Final = 1 << 20
FAMILY: Final = "👩\u200d👩\u200d👧\u200d👦"

TEXTS: Final = {
    "script": SCRIPT,
    "end of script": END_SCRIPT,
    "comment": "<!--<script>",
    "cdata": "]]><![CDATA[",
    "address": "javascript:alert(1)",
    "image": "<img src=x onerror=alert(1)>",
    "attribute": "\" onmouseover='alert(1)' x=` autofocus onfocus=alert(1) ",
    "picture": "<svg onload=alert(1)><style>* { display: none }</style>",
    "closing tags": "</textarea></title></style></template><iframe src=//evil.example></iframe>",
    "entities": "&lt;script&gt; &amp;amp; &#x3c;b&#x3e; &nbsp",
    "escapes": "\x1b]0;owned\x07\x1b[31mred\x1b[2J\x9b31m\x08\x7f",
    "override": "photo\u202egnp.exe",
    "isolates": "\u2066one \u2067two \u2068three \u200f",
    "template": "{{ 7*191 }} {% raw %} ${7*191} <%= 7*191 %> #{7*191}",
    "formula": "=cmd|' /C calc'!A0",
    "null": "a\0b",
    "separators": "one\u2028two\u2029three\u0085four",
    "byte order": "\ufeffmark\u00ad\u200bhidden",
    "Zalgo": "".join(letter + "\u0300\u0316\u0321\u035f\u0489" * 12 for letter in "Zalgo"),
    "long word": "Donaudampfschiff" * 200,
    "percent": "%s %(name)s %00 \\u003cscript\\u003e \\x3cb\\x3e",
    "lines": "\n\n\n\ttab\t\ttabs\r\nnext\n   spaces   \n\n\n",
    "Arabic": "قال: العدد 42 أكبر من 7 (نعم) و A/B.",
    "Hebrew": "שלום 123 world, \u200fשוב 4:30.",  # noqa: RUF001  Hebrew letters
    "Devanagari": "क्षत्रिय ज्ञान श्रीमान् किंतु",
    "family": f"a {FAMILY} of four, a 🏳\ufe0f\u200d🌈 flag, 👍🏽 and 🇩🇪",
    "combining": "e\u0301le\u0300ve n\u0303 o\u0308 하",
}
"""What is harmful, or hard to draw, by a name."""

_HALF_A_PAIR: Final = b"\xed\xa0\xbd"  # the lone surrogate U+D83D, as if it were UTF-8
_ODD: Final = (
    *("one token", "no tokens", "a megabyte", "no logprobs"),
    *("minus infinity", "no alternatives", "many alternatives", "bytes"),
)
_REFUSED: Final = {"refused", "refused twice"}
_IN_PIECES: Final = {"Devanagari", "family"}
_BY_LETTER: Final = {"combining", "Arabic", "Hebrew"}


def make_hostile_store(folder: Path) -> Path:
    """Make the store in a folder, and return its path: `folder/store`."""
    texts = TEXTS | {name: f"honest {name}" for name in _ODD} | {name: f"{SCRIPT}{name}" for name in sorted(_REFUSED)}
    ids = [f"{name} {text}"[:300] for name, text in texts.items()]
    columns = {
        "id": ids,
        "text": list(texts.values()),
        f"note {SCRIPT}": list(texts.values()),
        "truth": [SCRIPT if n % 2 else END_SCRIPT for n in range(len(texts))],
    }
    for run, night in (("night.1", 0), ("-night_2", 1)):
        (folder / run).mkdir(parents=True)
        write_prompts(folder / run, columns)
        job = write_job(
            folder / run,
            name="-_.hostile",
            prompts={"id": "id", "keep": [f"note {SCRIPT}", "truth"]},
            model={"name": f"model {END_SCRIPT}", "provider": "p", "top_logprobs": 20, "params": {"max_tokens": 50}},
            prices={"input_usd_per_million_tokens": 1.0, "output_usd_per_million_tokens": 2.0},
            transport={"kind": "replay", "fixtures": "recorded.jsonl"},
            store={"path": "../store"},
        )
        names = dict(zip(ids, texts, strict=True))
        run_recorded(job, run, _Answers(names, night), code=SOME_FAILED)
    _run_decisions(folder / "decided")
    return folder / "store"


class _Answers:
    """The answers of a hostile service; each night all tokens have other logprobs, and some are others."""

    def __init__(self, names: dict[str, str], night: int) -> None:
        self._names = names
        self._night = night

    def __call__(self, request: Request) -> tuple[int, Any]:
        name = self._names[request.prompt_id]
        if name in _REFUSED:
            message = f"{name}: {END_SCRIPT} \x1b[31m \u202e {{{{ 7*191 }}}} <img src=x onerror=alert(1)>"
            return 400, {"error": {"message": message, "type": SCRIPT, "code": SCRIPT, "param": SCRIPT}}
        tokens = self._tokens(name)
        text = b"".join(bytes(token["bytes"]) for token in tokens).decode(errors="replace")
        usage = {"prompt_tokens": 7, "completion_tokens": len(tokens), "total_tokens": 7 + len(tokens)}
        body = chat_body(tokens, text, id=SCRIPT, model=f"served {SCRIPT}", system_fingerprint=SCRIPT, usage=usage)
        body["choices"][0]["finish_reason"] = SCRIPT if name == "script" else "stop"
        return 200, body

    def _tokens(self, name: str) -> list[dict[str, Any]]:
        text = TEXTS.get(name, "")
        likely = -0.1 - self._night
        tops = {other: -3.0 - n for n, other in enumerate([SCRIPT, END_SCRIPT, "\u202e", "\x1b[31m", ""])}
        if name in _ODD:
            return _odd_tokens(likely, tops)[name]
        if name in _IN_PIECES:  # bytes that are no whole characters
            raw = text.encode()
            parts = [raw[at : at + 5] for at in range(0, len(raw), 5)]
            return [chat_token(part.decode(errors="replace"), -0.5, tops, raw=part) for part in parts]
        if name in _BY_LETTER:
            return [chat_token(letter, -n / 10, {letter: -n / 10, **tops}) for n, letter in enumerate(text)]
        other = [chat_token(" otherwise", -4.0, tops)] if self._night else []
        return [chat_token("It is: ", likely, tops), *other, chat_token(text, -1.5, {text: -1.5, **tops})]


def _odd_tokens(likely: float, tops: dict[str, float]) -> dict[str, list[dict[str, Any]]]:
    """The tokens of answers of an odd length or with odd numbers."""
    twenty = {f" {word}<b>{n}</b>": -2.0 - n / 4 for n, word in enumerate(["one", "two"] * 10)}
    alone = [chat_token("alone", likely), chat_token(" here", -2.0)]
    return {
        "one token": [chat_token("one", likely, {"one": likely, **tops})],
        "no tokens": [],
        "a megabyte": [chat_token("<b>" + "x" * ONE_MEGABYTE, likely), chat_token(" end", likely)],
        "no logprobs": [{**token, "logprob": None} for token in alone],
        "minus infinity": [chat_token("never", -math.inf, {"never": -math.inf}), chat_token(" rarely", -9999.0)],
        "no alternatives": alone,
        "many alternatives": [chat_token(word, -2.0, twenty) for word in (" one<b>0</b>", " two<b>1</b>")],
        "bytes": [chat_token("\ud83d", -1.0, raw=_HALF_A_PAIR), chat_token("?", -1.0, raw=b"\xff\xfe")],
    }


def _run_decisions(folder: Path) -> None:
    """Answers to typed questions, whose names, options and instructions are hostile."""
    folder.mkdir()
    write_prompts(folder, {"id": [SCRIPT, "two"], "text": [END_SCRIPT, "honest"]})
    options = [SCRIPT, END_SCRIPT, "javascript:alert(1)", "<braces>", "\u202eabc"]
    questions = [
        predicate(SCRIPT, f"It is {END_SCRIPT}."),
        choice_of(*options, name=f"which {END_SCRIPT}"),
    ]
    job = write_job(
        folder,
        name="decided",
        prompts={"id": "id"},
        model={"name": f"model {SCRIPT}", "provider": "p", "endpoint": "decisions", "top_logprobs": None},
        transport={"kind": "replay", "fixtures": "recorded.jsonl"},
        store={"path": "../store"},
    )
    with job.open("a", encoding="utf-8") as file:
        for question in questions:
            file.write(_as_toml(question))

    def answer(_: Request) -> tuple[int, Any]:
        likely = {"type": "predicate", "name": SCRIPT, "probability": 0.75}
        shares = dict.fromkeys(options, 0.2)
        return 200, decisions_body(likely, chosen(f"which {END_SCRIPT}", shares))

    run_recorded(job, "decided", answer)


def _as_toml(question: dict[str, Any]) -> str:
    """A question as a `[[questions]]` of the job file."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in question.items() if key != "choices"]
    if "choices" in question:
        lines.append(f"choices = {json.dumps([one['value'] for one in question['choices']])}")
    return "\n".join(["[[questions]]", *lines, ""])


if __name__ == "__main__":
    sys.stdout.write(f"{make_hostile_store(Path(sys.argv[1]).absolute())}\n")
