"""Fields of JSON answers: which tokens count for which value, by hand and against a slow reference."""

from __future__ import annotations

import itertools
import json
import math
from math import exp, log
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics.token_tables import Piece, token_table

import logprob_store as ls
from logprob_store.metrics.spans.fields import field_confidence_in_parts
from logprob_store.metrics.spans.json_scan import find_json, scan_json

FIXTURES = Path(__file__).parents[2] / "fixtures"


def fields(*answers: list[Piece], **kwargs: Any) -> list[dict[str, Any]]:
    """The rows of the answers' fields, in order."""
    found = ls.field_confidence(token_table(*answers), **kwargs).collect()
    return found.sort("completion_id", "field_index").to_dicts()


def whole(text: str) -> list[Piece]:
    """An answer of one token for each byte, each of logprob -1."""
    return [(bytes([byte]), -1.0) for byte in text.encode()]


def paths(text: str, **kwargs: Any) -> list[tuple[str | None, str | None]]:
    """Path and value of each field of a text."""
    return [(row["path"], row["value"]) for row in fields(whole(text), **kwargs)]


# which tokens count


def test_only_the_tokens_of_the_value_count() -> None:
    """Keys, brackets, commas and the quotes of strings are in no value: ln(1/2) + ln(1/4) = ln(1/8)."""
    pieces: list[Piece] = [('{"city": "', -1.0), ("Par", log(1 / 2)), ("is", log(1 / 4)), ('", "n": ', -2.0)]
    city, number = fields([*pieces, ("12", log(1 / 3)), ("}", -3.0)])

    assert (city["path"], city["type"], city["value"]) == ("/city", "string", '"Paris"')
    assert city["logprob_sum"] == pytest.approx(log(1 / 8))
    assert city["joint_probability"] == pytest.approx(1 / 8)
    assert city["confidence"] == pytest.approx(math.sqrt(1 / 8))
    assert city["perplexity"] == pytest.approx(math.sqrt(8))
    assert city["min_probability"] == pytest.approx(1 / 4)
    assert (city["scored_tokens"], city["straddling_tokens"]) == (2, 0)
    assert (city["first_position"], city["last_position"]) == (1, 2)
    assert (number["path"], number["type"], number["value"]) == ("/n", "number", "12")
    assert number["joint_probability"] == pytest.approx(1 / 3)


def test_a_token_across_an_edge_counts_whole_and_is_counted() -> None:
    """`":"P` begins the value and `s"}` ends it: both are in it, and both straddle."""
    (row,) = fields([('{"a', -1.0), ('":"P', -2.0), ("ari", -4.0), ('s"}', -8.0)])

    assert (row["logprob_sum"], row["scored_tokens"], row["straddling_tokens"]) == (-14.0, 3, 2)


def test_one_token_for_the_whole_answer() -> None:
    """The token crosses both edges of both values, and is one straddling token in each."""
    one, two = fields([('{"a":1,"b":2}', -3.0)])

    assert (one["logprob_sum"], one["straddling_tokens"]) == (-3.0, 1)
    assert (two["logprob_sum"], two["straddling_tokens"]) == (-3.0, 1)


@pytest.mark.parametrize(
    "heart",
    [
        [(b"\xf0\x9f\x92", -1.0), (b"\x99", -2.0)],
        [("bytes:\\xf0\\x9f\\x92", -1.0), ("bytes:\\x99", -2.0)],
        [("", -1.0), ("💙", -2.0)],
        [("\ufffd", -1.0), ("\ufffd", -2.0)],
    ],
    ids=["bytes", "escaped", "empty", "replaced"],
)
def test_an_emoji_of_several_tokens_shifts_nothing(heart: list[Piece]) -> None:
    """However its parts are shown, all count for its value, and the next value has the right bytes."""
    first, second = fields([('{"a":"', -9.0), *heart, ('","b":', -9.0), ("7", -4.0), ("}", -9.0)])

    assert (first["logprob_sum"], first["scored_tokens"], first["straddling_tokens"]) == (-3.0, 2, 0)
    assert (second["logprob_sum"], second["value"], second["straddling_tokens"]) == (-4.0, "7", 0)


def test_an_end_of_text_token_counts_for_no_value() -> None:
    """A token of zero bytes counts for no value, even inside one or next to one."""
    (row,) = fields([(b"[", -1.0), (b"", -5.0), (b"1", -1.0), (b"", -5.0), (b"2", -1.0), (b"", -5.0), (b"]", -1.0)])

    assert (row["logprob_sum"], row["scored_tokens"]) == (-2.0, 2)


def test_escapes_are_as_long_as_they_are_written() -> None:
    r"""`\u0041` is six bytes and A is one; the next value has the right bytes."""
    escaped, plain = fields(
        [('{"a":"', 0.0), ("\\u00", -1.0), ("41", -2.0), ('","b":"', 0.0), ("A", -4.0), ('"}', 0.0)]
    )

    assert (escaped["value"], escaped["logprob_sum"]) == ('"\\u0041"', -3.0)
    assert (plain["value"], plain["logprob_sum"]) == ('"A"', -4.0)


def test_forced_tokens_are_counted() -> None:
    """A logprob of 0 adds nothing to the sum and raises the mean; from the counts one gets the mean without them."""
    (row,) = fields([("[", 0.0), ("1", 0.0), ("2", -1.0), ("3", -0.0), ("]", 0.0)])

    assert (row["logprob_sum"], row["scored_tokens"], row["forced_tokens"]) == (-1.0, 3, 2)
    assert row["mean_logprob"] == pytest.approx(-1 / 3)


def test_nulls_are_left_out_and_counted() -> None:
    """A value of which no token has a logprob has no score: not 1, not 0."""
    one, none = fields([("[", -1.0), ("1", None), ("2", -1.0), (",", -1.0), ("3", None), ("]", -1.0)])

    assert (one["logprob_sum"], one["scored_tokens"], one["unscored_tokens"]) == (-1.0, 1, 1)
    assert (none["scored_tokens"], none["unscored_tokens"]) == (0, 1)
    assert [none[name] for name in ("logprob_sum", "joint_probability", "confidence", "perplexity")] == [None] * 4


def test_where_a_value_ended() -> None:
    """A comma of 1/4 ends 1, a quote of 1/2 ends Rome; true} holds its end, and [] and "" end by themselves."""
    answer = [('{"a": ', -1.0), ("1", -1.0), (",", log(1 / 4)), (' "b": "', -1.0), ("Rome", -1.0), ('"', log(1 / 2))]
    answer += [(', "c": [', -1.0), ("]", -1.0), (', "d": "', -1.0), ('"', -1.0), (', "e": ', -1.0), ("true}", -1.0)]

    assert [row["end_logprob"] for row in fields(answer)] == [log(1 / 4), log(1 / 2), None, None, None]


def test_no_end_where_nothing_follows() -> None:
    """The token that ended a text is not stored; a token of the next answer, or without a logprob, is no end."""
    rows = fields([("4", -1.0)], [("[5", -1.0)], [("[6", -1.0), ("]", None)])

    assert [(row["value"], row["end_logprob"]) for row in rows] == [("4", None), ("5", None), ("6", None)]


def test_an_empty_string_is_its_quotes() -> None:
    """An empty string is scored by its quotes; where they share a token with the colon, that token straddles."""
    (apart,) = fields([('{"a":', -1.0), ('"', -2.0), ('"', -4.0), ("}", -1.0)])
    (together,) = fields([('{"a', -1.0), ('":""', -2.0), ("}", -1.0)])

    assert (apart["value"], apart["logprob_sum"], apart["straddling_tokens"]) == ('""', -6.0, 0)
    assert (together["logprob_sum"], together["straddling_tokens"]) == (-2.0, 1)


def test_a_real_answer(tmp_path: Path) -> None:
    """A recorded answer of a real model: the tokens of "Paris" in `"city": "Paris"`, end-of-text token aside."""
    ls.import_responses([FIXTURES / "rich.jsonl"], tmp_path)
    store = ls.open_store(tmp_path)
    found = store.fields().filter(pl.col("path").is_not_null()).sort("field_index").collect()
    city = found.row(0, named=True)
    tokens = store.tokens.filter(pl.col("completion_id") == city["completion_id"]).sort("position").collect()
    inside = tokens.filter(pl.col("position").is_between(city["first_position"], city["last_position"]))

    assert found["path"].to_list() == ["/city", "/country", "/population_millions"]
    assert "Paris" in b"".join(inside["bytes"]).decode()
    assert city["value"] == '"Paris"'
    assert city["logprob_sum"] == pytest.approx(inside["logprob"].sum())
    assert city["scored_tokens"] == inside.height


# which values there are


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": {"b": [1, true]}, "c": null}', [("/a/b/0", "1"), ("/a/b/1", "true"), ("/c", "null")]),
        ("[[], {}, [[2]]]", [("/0", "[]"), ("/1", "{}"), ("/2/0/0", "2")]),
        ("42", [("", "42")]),
        (' "yes" ', [("", '"yes"')]),
        ("false\n", [("", "false")]),
        ('{"a": 1e3, "b": -0.5E-7}', [("/a", "1e3"), ("/b", "-0.5E-7")]),
        ('{"a/b": 1, "m~n": 2, "": 3}', [("/a~1b", "1"), ("/m~0n", "2"), ("/", "3")]),
        ('{"\\u0061\\/": 1}', [("/a~1", "1")]),
        ('{"a": 1, "a": 2}', [("/a", "1"), ("/a", "2")]),
        # half a surrogate pair has no place in a text; a whole pair is a heart
        ('{"\\ud83d": 1, "\\ud83d\\udc99": "\\ud83d"}', [("/\ufffd", "1"), ("/💙", '"\\ud83d"')]),
        ('{"é💙": "ü"}', [("/é💙", '"ü"')]),
        ('\t{ "a" :\r\n 1 }  ', [("/a", "1")]),
    ],
)
def test_values_and_their_paths(text: str, expected: list[tuple[str, str]]) -> None:
    """Each value that holds no other, by its RFC 6901 path, as it is written."""
    assert paths(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"a": 1}\n```',
        'Sure!\n\n```json\n{"a": 1}\n```\nAnything else?',
        'See [1]:\n```json\n{"a": 1}\n```',
        'The answer is {"a": 1}. Or {"b": 2}.',
        'Set {x} in [it], then {"a": 1}',
        '```\n{"a": 1}\n```',
    ],
)
def test_json_in_a_fence_or_in_prose(text: str) -> None:
    """The JSON is found, with the right tokens; with `wrapped=False` the same text is no JSON."""
    (row,) = fields(whole(text))
    (strict,) = fields(whole(text), wrapped=False)

    assert (row["path"], row["value"]) == ("/a", "1")
    assert row["begin_byte"] == text.index('"a": 1') + len('"a": ')
    assert strict["path"] is None
    assert strict["error"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1, "b": "Par', [("/a", "1", True), ("/b", '"Par', False)]),
        ('{"a": 1, "b": "', [("/a", "1", True)]),
        ('{"a": 1, "b', [("/a", "1", True)]),
        ('{"a": 1, "b":', [("/a", "1", True)]),
        ('{"a": "x"', [("/a", '"x"', True)]),
        ('{"a": 12', [("/a", "12", False)]),
        ('{"a": 12 ', [("/a", "12", True)]),
        ("[1e", [("/0", "1e", False)]),
        ("[true, fal", [("/0", "true", True), ("/1", "fal", False)]),
        ('[null, {"x": [tr', [("/0", "null", True), ("/1/x/0", "tr", False)]),
        ('["a\\u00', [("/0", '"a\\u00', False)]),
        ('Here: {"a": 1, ', [("/a", "1", True)]),
    ],
)
def test_truncated_json_has_the_fields_so_far(text: str, expected: list[tuple[str, str, bool]]) -> None:
    """Values before the cut are complete; the last may be incomplete, and a number at the cut always is."""
    rows = fields(whole(text))

    assert [(row["path"], row["value"], row["complete"]) for row in rows] == expected
    assert all(row["truncated"] for row in rows)


def test_a_value_cut_off_counts_its_tokens_so_far() -> None:
    """Of `"Par` three letters were written, and no closing quote."""
    (row,) = fields([('{"b":"', -1.0), ("Par", -2.0)])

    assert (row["logprob_sum"], row["scored_tokens"], row["straddling_tokens"]) == (-2.0, 1, 0)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("I cannot answer that.", "no JSON in the text"),
        ("", None),
        ('{"a": 1,}', "byte 8: a key in double quotes was expected"),
        ("{'a': 1}", "byte 1: a key in double quotes was expected"),
        ('{"a" 1}', "byte 5: a colon was expected"),
        ("[1 2]", "byte 3: a comma or ] was expected"),
        ("[01]", "byte 2: a comma or ] was expected"),
        ("[NaN]", "byte 1: a value was expected"),
        ('{"a": ', "the text ends before the first value"),
    ],
)
def test_a_section_without_json_is_one_row(text: str, error: str | None) -> None:
    """One row without a path holds the error; a section without tokens has no row."""
    rows = fields(whole(text))

    assert [(row["path"], row["scored_tokens"], row["error"]) for row in rows] == (
        [] if error is None else [(None, None, error)]
    )


def test_a_token_of_unknown_text_is_an_error() -> None:
    """A token with neither string nor bytes makes the text of its section unknown."""
    tokens = token_table([("[", -1.0), ("1", -1.0), ("]", -1.0)]).with_columns(
        token=pl.when(pl.col("position") != 1).then("token")
    )

    assert ls.field_confidence(tokens).select("path", "error").collect().rows() == [
        (None, "the text of a token is unknown")
    ]


def test_sections_are_texts_of_their_own() -> None:
    """The arguments of tool calls are a text of their own, and only the given sections are read."""
    both = pl.concat([token_table([("[1]", -1.0)]), token_table([("[2]", -2.0)], section="tool")])
    prompt = token_table([("[3]", -3.0)], section="prompt")
    tokens = pl.concat([both, prompt])
    all_, tool = ls.field_confidence(tokens), ls.field_confidence(tokens, sections=["tool"])

    assert sorted(all_.select("section", "value").collect().rows()) == [("content", "1"), ("tool", "2")]
    assert tool.select("value", "logprob_sum").collect().rows() == [("2", -2.0)]


@pytest.mark.parametrize("sections", ["content", ["contents"]])
def test_unknown_sections(sections: Any) -> None:
    """A misspelt section is an error, and not an empty table."""
    with pytest.raises(ValueError, match="section"):
        ls.field_confidence(token_table(), sections=sections)


def test_a_hundred_thousand_levels() -> None:
    """Depth alone is no error, whether closed, cut or broken; paths that would fill the memory are one."""
    deep = 100_000
    closed = find_json(b"[" * deep + b"]" * deep)
    broken = find_json(b"[" * deep + b"x")
    wide = find_json(b"[1," * deep)

    assert [len(leaf.path) for leaf in closed.leaves] == [2 * (deep - 1)]
    assert find_json(b"[" * deep).error == "the text ends before the first value"
    assert broken.error == f"byte {deep}: a value was expected"
    assert "deep" in (wide.error or "")


# laws


class Written:
    """A JSON text in progress, with the bytes of each value that was written."""

    def __init__(self) -> None:
        self.text = b""
        self.spans: list[tuple[str, int, int]] = []

    def write(self, value: Any, path: str, space: str, *, ascii_only: bool) -> None:
        """Append a value."""
        if isinstance(value, (list, dict)) and value:
            pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
            self.text += b"{" if isinstance(value, dict) else b"["
            for number, (key, inner) in enumerate(pairs):
                self.text += (b"," if number else b"") + space.encode()
                if isinstance(value, dict):
                    self.text += json.dumps(key, ensure_ascii=ascii_only).encode() + b":" + space.encode()
                pointer = str(key).replace("~", "~0").replace("/", "~1")
                self.write(inner, f"{path}/{pointer}", space, ascii_only=ascii_only)
            self.text += space.encode() + (b"}" if isinstance(value, dict) else b"]")
            return
        raw = json.dumps(value, ensure_ascii=ascii_only).encode()
        quotes = isinstance(value, str) and value != ""
        begin = len(self.text) + quotes
        self.text += raw
        self.spans.append((path, begin, len(self.text) - quotes))


SCALARS = st.none() | st.booleans() | st.integers(-999, 999) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.sampled_from('a"\\/~\n\u00e9\U0001f499{}[]:, '), max_size=5)
DOCUMENTS = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(st.data(), DOCUMENTS, st.sampled_from(["", " ", "\n\t"]))
def test_joint_probability_is_the_product_over_the_tokens_of_the_value(data: Any, value: Any, space: str) -> None:
    """For any document and any cut, it is exp of the sum over the tokens that have a byte of the value."""
    written = Written()
    written.write(value, "", space, ascii_only=data.draw(st.booleans()))
    text = written.text
    cuts = sorted({0, len(text), *data.draw(st.lists(st.integers(0, len(text)), max_size=len(text)))})
    logprobs = data.draw(st.lists(st.floats(-5, 0), min_size=len(cuts) - 1, max_size=len(cuts) - 1))
    tokens = [(a, b, logprob) for (a, b), logprob in zip(itertools.pairwise(cuts), logprobs, strict=True)]
    rows = fields([(text[a:b], logprob) for a, b, logprob in tokens])

    for row, (path, begin, end) in zip(rows, written.spans, strict=True):
        mine = [token for token in tokens if token[0] < end and token[1] > begin]
        assert row["path"] == path
        assert row["scored_tokens"] == len(mine)
        assert row["straddling_tokens"] == sum(a < begin or b > end for a, b, _ in mine)
        assert row["joint_probability"] == pytest.approx(exp(sum(logprob for *_, logprob in mine)))
        behind = [logprob for a, _, logprob in tokens if a == end]
        own_end = row["type"] in {"object", "array"} or row["value"] == '""'
        assert row["end_logprob"] == (None if own_end or not behind else behind[0])


@given(DOCUMENTS, st.data())
def test_a_cut_document_has_the_fields_before_the_cut(value: Any, data: Any) -> None:
    """Truncation is never an error within an object or array, and complete values are those of the whole document."""
    text = json.dumps([value]).encode()
    cut = scan_json(text[: data.draw(st.integers(1, len(text) - 1))])

    assert cut.error is None
    assert cut.truncated
    assert {leaf for leaf in cut.leaves if leaf.complete} <= set(scan_json(text).leaves)


@given(st.binary(max_size=30) | st.text(st.sampled_from('{}[]:,"\\truefalsn01.eE+- \n'), max_size=20))
def test_strict_json_is_what_the_standard_library_reads(text: bytes | str) -> None:
    """Whole, valid JSON and nothing else has fields with `wrapped=False` (but for bytes that are no text)."""
    raw = text.encode() if isinstance(text, str) else text.decode("utf-8", "ignore").encode()

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        json.loads(raw.decode(), parse_constant=refuse)
    except ValueError:
        valid = False
    else:
        valid = not raw.startswith("\ufeff".encode())
    found = find_json(raw, wrapped=False)

    assert (found.error is None and not found.truncated) == valid


def test_order_of_rows_and_parts_change_nothing() -> None:
    """Shuffled tokens, and a few completions at a time, give the same rows."""
    answers = [whole(json.dumps({"n": number, "s": "x" * number})) for number in range(9)]
    expected = ls.field_confidence(token_table(*answers)).sort("completion_id", "field_index").collect()
    shuffled = token_table(*answers).collect().sample(fraction=1, shuffle=True, seed=1).lazy()
    found = field_confidence_in_parts(shuffled, sections=["content"], wrapped=True, rows=50)

    assert found.sort("completion_id", "field_index").collect().equals(expected)
    assert found.filter(pl.col("completion_id") == 3).select("path").collect().height == 2
    assert found.filter(pl.col("path") == "/n").select("value").collect().height == 9
    assert found.head(3).collect().height == 3
