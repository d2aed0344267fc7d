"""fixtures/README.md: each line of its tables is true of the committed recordings."""

from __future__ import annotations

import json
import re
from typing import Any

import polars as pl
import pytest
from builders import REPO

FIXTURES = REPO / "fixtures"


def recorded(name: str) -> list[dict[str, Any]]:
    """The answers of a fixtures file."""
    return [json.loads(line)["body"] for line in (FIXTURES / name).read_bytes().splitlines()]


def rich() -> dict[str, dict[str, Any]]:
    """The answers of rich.jsonl by prompt id, found by the text of the prompt."""
    ids = dict(pl.read_parquet(FIXTURES / "rich.parquet").select("text", "id").iter_rows())
    lines = [json.loads(line) for line in (FIXTURES / "rich.jsonl").read_bytes().splitlines()]
    return {ids[line["request"]["messages"][-1]["content"]]: line["body"] for line in lines}


def tokens(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The tokens of all choices of an answer."""
    return [token for choice in body["choices"] for token in choice["logprobs"]["content"]]


def text(body: dict[str, Any]) -> str:
    """The text of an answer's first choice."""
    content: str = body["choices"][0]["message"]["content"]
    return content


def spelt(body: dict[str, Any]) -> str:
    """The text that the bytes of an answer's tokens spell."""
    return b"".join(bytes(token["bytes"]) for token in tokens(body)).decode()


def whole(listed: dict[str, Any]) -> bool:
    """Whether a token's or an alternative's bytes are valid UTF-8 for its text."""
    try:
        return bool(bytes(listed["bytes"]).decode() == listed["token"])
    except UnicodeDecodeError:
        return False


def unlisted(body: dict[str, Any]) -> int:
    """The number of tokens whose id is not among their alternatives."""
    return sum(token["id"] not in [other["id"] for other in token["top_logprobs"]] for token in tokens(body))


def unlisted_bytes(body: dict[str, Any]) -> int:
    """The number of tokens whose bytes are not among those of their alternatives."""
    return sum(token["bytes"] not in [other["bytes"] for other in token["top_logprobs"]] for token in tokens(body))


def test_every_prompt_of_rich_is_described() -> None:
    """The table of fixtures/README.md has each prompt of rich.parquet, in order."""
    table = re.findall(
        r"^\| `([a-z-]+)` \|", (FIXTURES / "README.md").read_text("utf-8").split("by `id`:")[1], re.MULTILINE
    )

    assert table[:11] == pl.read_parquet(FIXTURES / "rich.parquet")["id"].to_list() == list(rich())


@pytest.mark.parametrize("name", ["capitals.jsonl", "capitals-chat.jsonl", "rich.jsonl"])
def test_all_recordings(name: str) -> None:
    """Tokens and alternatives have ids, nothing has a `refusal`, every token is whole, and there are further keys."""
    for body in recorded(name):
        assert {"timings", "system_fingerprint"} <= set(body)
        assert "prompt_tokens_details" in body["usage"]
        assert all("id" in listed for token in tokens(body) for listed in (token, *token["top_logprobs"]))
        assert all(list(choice["logprobs"]) == ["content"] for choice in body["choices"])
        assert all("refusal" not in choice.get("message", {}) for choice in body["choices"])
        assert all(whole(token) for token in tokens(body))


def test_capitals() -> None:
    """`usage` counts a stop string's token, which is not listed; an answer cut by its length is counted exactly."""
    legacy, chat = recorded("capitals.jsonl"), recorded("capitals-chat.jsonl")
    more = [body["usage"]["completion_tokens"] - len(tokens(body)) for body in chat]
    cut = [body["choices"][0]["finish_reason"] == "length" for body in chat]

    assert len(legacy) == len(chat) == 243
    assert {body["object"] for body in legacy} == {"text_completion"}
    assert all("text" in body["choices"][0] for body in legacy)
    assert {body["usage"]["completion_tokens"] - len(tokens(body)) for body in legacy} == {1}
    assert [extra == 0 for extra in more] == cut
    assert (cut.count(False), set(more)) == (241, {0, 1})


def test_emoji_and_its_variation_selector_are_one_token() -> None:
    """The tokens ❤️ and ☀️ hold two code points each."""
    emoji = rich()["emoji"]

    assert {"❤️", " ❤️"} <= {listed["token"] for token in tokens(emoji) for listed in (token, *token["top_logprobs"])}
    assert {" ❤️", "☀️"} <= {token["token"] for token in tokens(emoji)}


def test_a_character_of_several_tokens_is_listed_as_one() -> None:
    """The listed token has all bytes of the character, and the id, logprob and alternatives of its last byte."""
    split = rich()["emoji-split"]

    assert (len(tokens(split)), split["usage"]["completion_tokens"], unlisted_bytes(split)) == (4, 16, 4)
    beside = [other for token in tokens(split) for other in token["top_logprobs"]]
    assert {(other["token"], len(other["bytes"])) for other in beside} == {("\ufffd", 1)}
    assert all(token["id"] == token["top_logprobs"][0]["id"] for token in tokens(split))
    assert all(token["logprob"] == token["top_logprobs"][0]["logprob"] for token in tokens(split))
    assert all(token["bytes"][-1:] == token["top_logprobs"][0]["bytes"] for token in tokens(split))


def test_a_flag_is_two_tokens() -> None:
    """Each regional indicator is a token, and one alternative is not a whole character."""
    flags = rich()["emoji-flags"]

    assert [token["token"] for token in tokens(flags)][1:3] == ["🇫", "🇷"]
    assert [whole(other) for token in tokens(flags) for other in token["top_logprobs"]].count(False) == 1


def test_words_in_other_scripts_are_split_anywhere() -> None:
    """Japanese tokens have 1 to 5 characters; Arabic and Hindi words are cut within."""
    found = rich()

    assert {len(token["token"]) for token in tokens(found["japanese"])} == {1, 2, 3, 5}
    assert [token["token"] for token in tokens(found["arabic"])][:2] == [" بار", "يس"]
    assert "्यो" in [token["token"] for token in tokens(found["hindi"])]


def test_usage_counts_one_of_two_choices() -> None:
    """Both choices have 8 tokens, `usage` counts 8, and two tokens are not among their alternatives."""
    choices = rich()["choices"]

    assert [len(choice["logprobs"]["content"]) for choice in choices["choices"]] == [8, 8]
    assert (choices["usage"]["completion_tokens"], unlisted(choices)) == (8, 2)


def test_a_schema_forces_unlikely_tokens() -> None:
    """Of 50 tokens 13 are not the likeliest, and the text is stripped on both sides."""
    bound = rich()["json"]

    unlikely = [token["logprob"] < token["top_logprobs"][0]["logprob"] for token in tokens(bound)]
    assert (len(unlikely), sum(unlikely), unlisted(bound)) == (50, 13, 6)
    assert json.loads(text(bound))["city"] == "Paris"
    assert text(bound) == spelt(bound).strip()
    assert spelt(bound) not in {spelt(bound).lstrip(), spelt(bound).rstrip()}
    assert (tokens(bound)[-1]["token"], tokens(bound)[-1]["bytes"]) == ("", [])


def test_a_long_answer_has_twenty_alternatives() -> None:
    """It has 200 tokens and was ended by its length."""
    long = rich()["long"]

    assert {len(token["top_logprobs"]) for token in tokens(long)} == {20}
    assert (len(tokens(long)), long["choices"][0]["finish_reason"]) == (200, "length")


def test_a_stopped_answer_has_a_space_more_than_its_tokens() -> None:
    """The token of the stop string is dropped, and its space stays in the text."""
    stopped = rich()["stopped"]

    assert text(stopped) == spelt(stopped) + " "


def test_an_answer_cut_by_length_lists_all_its_tokens() -> None:
    """Three tokens are listed and counted."""
    cut = rich()["cut"]

    assert (len(tokens(cut)), cut["usage"]["completion_tokens"], cut["choices"][0]["finish_reason"]) == (3, 3, "length")
