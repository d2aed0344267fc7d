"""The legacy completions shape, its relatives, and echoed prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    Frames = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]

ECHOED = {
    "tokens": ["The", " cat", " sat"],
    "token_logprobs": [None, -2.5, -0.5],
    "top_logprobs": [None, {" cat": -2.5, " dog": -1.0}, {" sat": -0.5}],
    "text_offset": [0, 3, 7],
}


def body(logprobs: Any, text: str = "The cat sat", **usage: int) -> dict[str, Any]:
    """A body of the completions endpoint."""
    return {"choices": [{"index": 0, "text": text, "logprobs": logprobs}], "usage": usage}


def sections(tokens: pl.DataFrame) -> list[tuple[str, int, str]]:
    """Section, position and text of each token, in the order of the rows."""
    return tokens.select("section", "position", "token").rows()


def test_alternatives_have_the_rank_in_which_they_came(decode_one: Callable[..., Frames]) -> None:
    """The dict's order is the rank, even where the chosen one is not first or not the best."""
    _, tokens, alternatives = decode_one(body(ECHOED), endpoint="completions")

    assert tokens["logprob"].to_list() == [None, -2.5, -0.5]
    assert tokens["logprob_flag"].to_list() == ["missing", None, None]
    assert alternatives.select("section", "position", "rank", "token", "logprob").rows() == [
        ("content", 1, 1, " cat", -2.5),
        ("content", 1, 2, " dog", -1.0),
        ("content", 2, 1, " sat", -0.5),
    ]


def test_an_echoed_prompt_is_a_section_of_its_own(decode_one: Callable[..., Frames]) -> None:
    """The prompt "The cat" is 7 letters long, so the token at 7 is the first generated; sums leave the prompt out."""
    options = {"endpoint": "completions", "echo": True, "prompt": "The cat"}
    completions, tokens, alternatives = decode_one(body(ECHOED, prompt_tokens=9), **options)

    assert sections(tokens) == [("prompt", 0, "The"), ("prompt", 1, " cat"), ("content", 0, " sat")]
    assert alternatives.select("section", "position", "rank").rows() == [
        ("prompt", 1, 1),
        ("prompt", 1, 2),
        ("content", 0, 1),
    ]
    assert completions.select("token_count", "logprob_sum", "logprob_min").row(0) == (1, -0.5, -0.5)


@pytest.mark.parametrize(
    ("asked", "offsets", "counted", "expected"),
    [
        ("The cat", [0, 3, 7], 1, 2),  # where tokens start is surer than a count
        ("The cat", [10, 13, 17], None, 2),  # relative to the first
        ("The cat", None, None, 2),  # 3 + 4 letters
        ("The", [3, 6, 10], 2, 1),
        ("The c", [0, 3, 7], 2, 2),  # none starts at 5: the count decides
        ("The c", [0, 3, 7], None, 2),  # no count: 0 and 3 lie before 5
        ("A cat", [0, 3, 7], 2, 2),  # the first has no logprob, so it is an echo, spelled in another way: the count
        ([5, 6], [0, 3, 7], None, 2),  # a prompt of token ids
        (["The cat"], [0, 3, 7], None, 2),
        ("The cat sat", [0, 3, 7], 3, 3),  # max_tokens = 0
        ("", [0, 3, 7], None, 0),
        (None, [0, 3, 7], 2, 2),
    ],
)
def test_where_the_prompt_ends(
    decode_one: Callable[..., Frames], asked: Any, offsets: list[int] | None, counted: int | None, expected: int
) -> None:
    """Where a token starts right after the prompt; if none does, after the counted prompt tokens."""
    usage = {} if counted is None else {"prompt_tokens": counted}
    prompt = {} if asked is None else {"prompt": asked}
    value = {**ECHOED, "text_offset": offsets}
    _, tokens, _ = decode_one(body(value, **usage), endpoint="completions", echo=True, **prompt)

    assert tokens["section"].to_list() == ["prompt"] * expected + ["content"] * (3 - expected)


def echo(prompt: str, pieces: list[str], offsets: Any, text: str | None = None, first: Any = None, **usage: int) -> Any:
    """A body that echoes, and what was asked."""
    logprobs = [first, *[-1.0] * (len(pieces) - 1)]
    value = {"tokens": pieces, "token_logprobs": logprobs, "top_logprobs": None, "text_offset": offsets}
    return body(value, "".join(pieces) if text is None else text, **usage), {
        "endpoint": "completions",
        "echo": True,
        "prompt": prompt,
    }


JAPAN = ["日", "本", " is", " it", "."]


@pytest.mark.parametrize(
    "offsets",
    [
        [0, 1, 2, 5, 8],  # characters
        [0, 3, 6, 9, 12],  # bytes
        [0, 1, 2, 0, 3],  # anew in the second chunk
        [0, 0, 0, 0, 0],
        None,
        "0",
    ],
)
def test_offsets_of_any_unit_do_not_move_the_prompts_end(decode_one: Callable[..., Frames], offsets: Any) -> None:
    """The prompt is 5 characters and 9 bytes long; its 3 tokens spell it, whatever the offsets count."""
    asked, options = echo("日本 is", JAPAN, offsets)
    _, tokens, _ = decode_one(asked, **options)

    assert tokens["section"].to_list() == ["prompt"] * 3 + ["content"] * 2


@pytest.mark.parametrize("offsets", [[0, 0, 1, 2, 5], [0, 2, 3, 6, 9]])
def test_offsets_decide_where_tokens_have_lost_their_bytes(decode_one: Callable[..., Frames], offsets: Any) -> None:
    """The halves of 日 are U+FFFD; the other tokens stand in the text at their offsets, in characters or in bytes."""
    asked, options = echo("日本 is", ["\ufffd", "\ufffd", "本", " is", " it"], offsets, "日本 is it")
    _, tokens, _ = decode_one(asked, **options)

    assert tokens["section"].to_list() == ["prompt"] * 4 + ["content"]


def test_tokens_escaped_by_openai_spell_the_prompt(decode_one: Callable[..., Frames]) -> None:
    r"""`bytes:\xe6` stands for a byte."""
    asked, options = echo("日b", ["bytes:\\xe6\\x97", "bytes:\\xa5", "b", "c"], [0, 0, 0, 0], "日bc")
    _, tokens, _ = decode_one(asked, **options)

    assert tokens["section"].to_list() == ["prompt"] * 3 + ["content"]


def test_a_begin_of_text_token_is_of_the_prompt(decode_one: Callable[..., Frames]) -> None:
    """Whether the text shows it or not."""
    for text in ("<s>The cat sat", "The cat sat"):
        asked, options = echo("The cat", ["<s>", "The", " cat", " sat"], [0, 3, 6, 10], text)
        _, tokens, _ = decode_one(asked, **options)

        assert tokens["section"].to_list() == ["prompt"] * 3 + ["content"]


@pytest.mark.parametrize(("usage", "asked"), [({"completion_tokens": 0}, {}), ({}, {"max_tokens": 0})])
def test_all_tokens_are_the_prompts_if_none_was_generated(
    decode_one: Callable[..., Frames], usage: Any, asked: Any
) -> None:
    """As the server counts or the request asked, however the tokens spell the prompt."""
    sent, options = echo("the cat", ["\u2581the", "\u2581cat"], [0, 3], "the cat", **usage)
    _, tokens, _ = decode_one(sent, **options, **asked)

    assert tokens["section"].to_list() == ["prompt"] * 2


@pytest.mark.parametrize(
    ("prompt", "usage"), [("A cat", {}), ("The", {"prompt_tokens": 1, "completion_tokens": 3}), ([5], {})]
)
def test_an_echo_that_was_ignored_gives_no_prompt(decode_one: Callable[..., Frames], prompt: Any, usage: Any) -> None:
    """The first token has a logprob, and the text does not begin with the prompt, or all tokens are counted as new."""
    usage = usage or {"completion_tokens": 3}
    asked, options = echo(prompt, ["The", " cat", " sat"], [0, 3, 7], first=-1.0, **usage)
    _, tokens, _ = decode_one(asked, **options)

    assert tokens["section"].to_list() == ["content"] * 3


def test_a_token_of_no_letters_at_the_prompts_end_is_counted(decode_one: Callable[..., Frames]) -> None:
    """Tokens that end inside a character may be empty: which of them are the prompt's, the count says."""
    for counted, expected in ((1, 1), (2, 2), (None, 1)):
        usage = {} if counted is None else {"prompt_tokens": counted}
        asked, options = echo("The", ["The", "", " cat"], None, **usage)
        _, tokens, _ = decode_one(asked, **options)

        assert tokens["section"].to_list() == ["prompt"] * expected + ["content"] * (3 - expected)


@pytest.mark.parametrize(
    ("prompt", "usage"),
    [
        ("A cat", {}),
        ("A cat", {"prompt_tokens": 4}),
        ("A cat", {"prompt_tokens": 2, "completion_tokens": 2}),
        ([5, 6, 7, 8], {}),
    ],
)
def test_an_end_that_cannot_be_told_is_a_failure(failure_of: Callable[..., Any], prompt: Any, usage: Any) -> None:
    """Its tokens do not spell the prompt, and no count fits: better no score than one of other tokens."""
    asked, options = echo(prompt, ["The", " cat", " sat"], [0, 3, 7], **usage)
    error_type, message = failure_of(asked, **options)

    assert error_type == "malformed_answer"
    assert message.startswith("choices[0].logprobs: it cannot be told where the echoed prompt ends")


def test_several_prompts_in_one_call_each_have_their_own(decode_one: Callable[..., Frames]) -> None:
    """Two prompts, two choices each: choice 2 is the second prompt's first."""
    choices = [
        {"index": n, "text": "abc", "logprobs": {"tokens": ["a", "b", "c"], "token_logprobs": [-1, -1, -1]}}
        for n in range(4)
    ]
    asked = {"prompt": ["a", "ab"], "n": 2, "echo": True}
    _, tokens, _ = decode_one({"choices": choices, "usage": {"prompt_tokens": 3}}, endpoint="completions", **asked)
    counts = tokens.filter(section="prompt").group_by("completion_id").len().sort("completion_id")

    assert counts.rows() == [(0, 1), (1, 1), (2, 2), (3, 2)]


def test_togethers_mixture_on_chat(decode_one: Callable[..., Frames]) -> None:
    """Lists of tokens beside `content: null`, with token ids and a first logprob above 0."""
    value = {"content": None, "tokens": ["a", "b"], "token_logprobs": [0.7, -1.0], "token_ids": [5, 6]}
    _, tokens, _ = decode_one({"choices": [{"logprobs": value}]})

    assert tokens.select("section", "token_id", "logprob", "logprob_flag", "logprob_wire").rows() == [
        ("content", 5, None, "positive", 0.7),
        ("content", 6, -1.0, None, None),
    ]


def test_the_chat_shape_on_the_completions_endpoint(decode_one: Callable[..., Frames]) -> None:
    """llama.cpp and Ollama answer so; the text is the choice's."""
    completions, tokens, _ = decode_one(
        body({"content": [{"id": 9, "token": "a", "logprob": -1}]}, "a"), endpoint="completions"
    )

    assert tokens.select("token", "token_id").rows() == [("a", 9)]
    assert completions.select("text", "endpoint").row(0) == ("a", "completions")


def test_the_wire_column_is_one_constant_for_regular_answers(decode_one: Callable[..., Frames]) -> None:
    """Offsets that follow from the tokens (in code points, not bytes) are stored as the first of them."""
    value = {"tokens": ["é", "b"], "token_logprobs": [-1, -1], "top_logprobs": None, "text_offset": [4, 5]}
    completions, _, _ = decode_one(body(value), endpoint="completions")

    expected = (
        '{"shape":"tokens","keys":{"tokens":"list","token_logprobs":"list","top_logprobs":"null","text_offset":4}}'
    )

    assert completions["wire"].to_list() == [expected]
