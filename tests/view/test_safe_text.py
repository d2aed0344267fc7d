"""Text that is safe to print on a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from logprob_store.view.safe_text import printable


@given(st.text())
def test_no_text_keeps_a_character_that_a_terminal_obeys(text: str) -> None:
    """Whatever the text, no control character, bidirectional override or surrogate is left."""
    shown = printable(text)

    assert len(shown) == len(text)
    assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 or 0xD800 <= ord(char) < 0xE000 for char in shown)
    assert not set(shown) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
