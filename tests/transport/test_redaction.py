"""The key in all its spellings, found in what servers send."""

from __future__ import annotations

import base64
import json
import logging
import urllib.parse
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.transport.redaction import Redaction

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "-".join(["sk", "abc/def+ghi=0123456789_Zq8vN3xT7rK"])  # noqa: FLY002  in one piece, scanners take it for a key
KEYS = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"\\'), min_size=12, max_size=60
)


def escaped(text: str, code: str = "\\\\u{:04x}") -> str:
    """The text with each character as an escape."""
    return "".join(code.format(ord(char)) for char in text)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "slashes as PHP writes them": lambda key: key.replace("/", "\\/"),
    "safe for HTML": lambda key: key.replace("+", "\\u002b").replace("=", "\\u003D"),
    "the first character": lambda key: escaped(key[0]) + key[1:],
    "the last character": lambda key: key[:-1] + escaped(key[-1]),
    "each character": escaped,
    "JSON in JSON": lambda key: json.dumps(json.dumps(key).replace("/", "\\/")),
    "escapes in JSON in JSON": lambda key: json.dumps(escaped(key)),
    "in a URL": lambda key: urllib.parse.quote(key, safe=""),
    "each character in a URL": lambda key: escaped(key, "%{:02X}"),
    "in a URL in a URL": lambda key: urllib.parse.quote(urllib.parse.quote(key, safe="")),
    "in HTML": lambda key: escaped(key, "&#{};"),
    "in HTML, hexadecimal": lambda key: escaped(key, "&#x{:X};"),
    "in HTML, by name": lambda key: key.replace("+", "&plus;").replace("/", "&sol;").replace("_", "&UnderBar;"),
    "with one name of HTML": lambda key: key.replace("=", "&equals;"),
    "in hexadecimal": lambda key: key.encode().hex(),
    "in capital hexadecimal": lambda key: key.encode().hex().upper(),
    "as escapes of Python": lambda key: escaped(key, "\\x{:02x}"),
    "as escapes of Python in JSON": lambda key: json.dumps(escaped(key, "\\x{:02x}")),
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_the_key_is_found_in_each_spelling(spell: Callable[[str], str]) -> None:
    """`[key]` takes its place, in answers, refusals and messages."""
    redaction = Redaction("another-key-0123456789", KEY)
    text = f"said: {spell(KEY)} and more"

    clean = redaction.text(text)

    assert "[key]" in clean
    assert KEY[3:-3] not in clean
    assert "0123" not in clean
    assert redaction.answer(text.encode()) == redaction.refusal(text.encode()) == clean.encode()


@given(key=KEYS, before=st.binary(max_size=4), after=st.binary(max_size=4), for_urls=st.booleans())
def test_the_key_is_found_in_base64(key: str, before: bytes, after: bytes, *, for_urls: bool) -> None:
    """Wherever it stands among other bytes, in both alphabets; at most two of its characters are left at each end."""
    encode = base64.urlsafe_b64encode if for_urls else base64.b64encode
    coded = encode(before + key.encode() + after)

    clean = Redaction(key).refusal(b"x " + coded + b" y")

    assert b"[key]" in clean
    # A group of four characters that the key shares with its neighbours may be left at each end.
    assert len(clean) <= len(b"x [key] y") + len(encode(before)) + len(encode(after)) + 4


@given(KEYS, st.data())
def test_the_key_is_found_where_spellings_are_mixed(key: str, data: st.DataObject) -> None:
    """Each character in a spelling of its own."""
    codes = ["{1}", "\\u{0:04x}", "\\u{0:04X}", "%{0:02x}", "%25{0:02X}", "&#{0};", "&#x{0:x};", "\\x{0:02X}"]
    text = "".join(data.draw(st.sampled_from(codes)).format(ord(char), char) for char in key)

    assert Redaction(key).text(f"({text})") == "([key])"


def test_the_bytes_of_a_token_that_is_the_key_go_with_it() -> None:
    """Their place is taken by those of `[key]`."""
    token = {"token": KEY, "logprob": -0.5, "bytes": list(KEY.encode())}

    clean = Redaction(KEY).answer(json.dumps(token).encode())

    assert json.loads(clean) == {"token": "[key]", "logprob": -0.5, "bytes": list(b"[key]")}


@pytest.mark.parametrize("indent", [None, 1], ids=["in one line", "printed"])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["dense", "spaced"])
def test_a_key_as_bytes_alone_is_found(indent: int | None, separators: tuple[str, str]) -> None:
    """Also where no other spelling of it is near, which would have the body looked at."""
    body = json.dumps({"token": "x", "bytes": list(KEY.encode())}, indent=indent, separators=separators).encode()

    assert json.loads(Redaction(KEY).answer(body)) == {"token": "x", "bytes": list(b"[key]")}


def test_an_answer_without_the_key_stays_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever escapes it has; no warning is logged."""
    body = json.dumps({"text": "50% of \u00e9t\u00e9 \u007f & <a href='/x'> \u2028 \\ sk-"}).encode()
    body += rb' "\u0073\u006b \/ %73 &#115;"'

    assert Redaction(KEY).answer(body) is body
    assert caplog.text == ""


def test_a_key_in_an_answer_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """However often it comes."""
    redaction = Redaction(KEY)
    with caplog.at_level(logging.WARNING):
        redaction.answer(escaped(KEY).encode())
        redaction.answer(KEY.encode())

    assert caplog.text.count("the server wrote the API key into an answer") == 1


@given(KEYS, st.data())
def test_a_key_is_found_that_is_spread_over_the_events_of_a_stream(key: str, data: st.DataObject) -> None:
    """What the events add up to has `[key]` in its place, once for each time; other texts and events stay."""
    text = f"it is {key}, and {key}"
    ends = sorted({0, len(text), *data.draw(st.lists(st.integers(0, len(text))))})
    pieces = [text[start:end] for start, end in pairwise(ends)]
    events = [{"choices": [{"delta": {"content": piece}}]} for piece in pieces]
    body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"

    found = [json.loads(line[6:]) for line in Redaction(key).answer(body).splitlines() if line.startswith(b"data: {")]

    texts = [event["choices"][0]["delta"]["content"] for event in found]
    assert "".join(texts) == "it is [key], and [key]"
    assert len(texts) == len(pieces)
