"""The compiled scanner: values that it reads, and values that it leaves to be read token by token.

Each test runs a second time as where the scanner is not compiled, and all values are read token by token.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from builders import answer_with
from decode.decoding import assert_scanned, rebuild

from logprob_store.decode.bulk import scan_loop as scan_loop_module
from logprob_store.decode.bulk.scan_loop import load_scan_loop
from logprob_store.decode.decoder import Decoder, decode_answers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from logprob_store.decode.decoder import Decoded

ONE = '{"token":"a","logprob":-1.5,"bytes":[97],"top_logprobs":[{"token":"b","logprob":-2.5,"bytes":[98]}]}'
OTHER_BYTES = ',"bytes":[98]'
EXTRA = ONE.replace(OTHER_BYTES, ',"extra":1')
WITHOUT = ONE.replace(OTHER_BYTES, "")
NULL_ELSEWHERE = ONE.replace(OTHER_BYTES, ',"bytes":null').replace(',"bytes":[97]', "")
REGULAR = [
    f'{{"content":[{ONE},{ONE}],"refusal":null}}',
    f'{{"refusal":null,"content":[{ONE}]}}',
    f'{{"content":null,"refusal":[{ONE}]}}',
    f'{{"content":[{ONE}]}}',
    f'{{ "content" : [ {ONE.replace(":", " : ")} ] }}',
    f'{{"content":[\n{ONE}\n]}}',
    ONE.join(('{"content":[', '],"refusal":null}')).replace("[98]", "null"),
    '{"content":[{"token":"a","logprob":-1.5}]}',
    '{"content":[{"token":"a","logprob":-1.5,"top_logprobs":null}]}',
    '{"content":[{"token":"a","logprob":-1.5,"bytes":null,"top_logprobs":[]}]}',
    '{"content":[{"id":5,"token":"a","bytes":[97],"logprob":-1.5,"top_logprobs":[{"id":6,"token":"b","bytes":[],"logprob":0}]}]}',
    '{"content":[{"token":"{\\"a\\": [{","logprob":-9999.0},{"token":"\\"bytes\\":","logprob":0.5}]}',
    '{"content":[{"token":":","logprob":-0.0},{"token":"2-0, ","logprob":0}]}',
    '{"content":[{"token":"\\ud83d\\ude00\\u0000\\u003a","logprob":-1E-5},{"token":"bytes","logprob":-1e5}]}',
]
IRREGULAR = [
    f'{{"content":[{EXTRA}]}}',
    f'{{"content":[{ONE},{EXTRA}]}}',
    f'{{"content":[{ONE},{WITHOUT}]}}',
    f'{{"content":[{WITHOUT},{ONE}]}}',
    f'{{"content":[{ONE},{NULL_ELSEWHERE}]}}',
    f'{{"content":[{ONE}],"extra":null}}',
    f'{{"content":[{ONE}],"tokens":null}}',
    f'{{"content":[{ONE}],"content":[]}}',
    '{"content":[{"token":"a","logprob":-1.5,"logprob":-2}]}',
    '{"content":[{"token":"a","logprob":-0}]}',
    '{"content":[{"token":"a","logprob":-9007199254740993}]}',
    '{"content":[{"token":"a","logprob":-1e999}]}',
    '{"content":[{"token":"a","logprob":null}]}',
    '{"content":[{"token":"a","logprob":-1,"id":4294967296}]}',
    '{"content":[{"token":"a","logprob":-1,"id":1.0}]}',
    '{"content":[{"token":"a","logprob":-1,"bytes":[256]}]}',
    '{"content":[{"token":"a","logprob":-1,"bytes":[null]}]}',
    '{"content":[{"token":"a","logprob":-1,"bytes":97}]}',
    '{"content":[{"token":"a","logprob":-1,"bytes":[[97]]}]}',
    '{"content":[{"token":"a","logprob":-1,"bytes":[[]]}]}',
    '{"content":[{"token":"a","logprob":-1,"bytes":"a"}]}',
    '{"content":[{"token":"a","logprob":-1,"bytes":[97.0]}]}',
    '{"content":[{"token":"a","logprob":-1,"top_logprobs":[{"token":"a","logprob":-1,"top_logprobs":[]}]}]}',
    '{"content":[{"token":"\\ud83d","logprob":-1}]}',
    '{"content":[{"token":"\\ude00","logprob":-1}]}',
    '{"content":[{"token":"a","logprob":-1,"byt\\u0065s":null},{"token":"a","logprob":-1,"bytes":null}]}',
    '{"content":[{"token":"a","logprob":-1,"bytes":null},{"token":"\\"bytes\\":","logprob":-1}]}',
    '{"content":[{"token":"a","logprob":-1,"token_id":null},{"token":"a","logprob":-1}]}',
    '{"content":[{"token":"a","logprob":-1,"token_id":1,"id":1}]}',
    '{"content":[{"token":"a","logprob":-1,"top_logprobs":[]},{"token":"a","logprob":-1,"top_logprobs":null}]}',
    '{"content":[{"token":"a","logprob":-1,"top_logprobs":null},{"token":"a","logprob":-1}]}',
]


@pytest.fixture(params=["compiled", "not compiled"], autouse=True)
def scan_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With the compiled loop, and without it."""
    if request.param == "not compiled":
        monkeypatch.setattr(scan_loop_module, "LIBRARY", Path("not there"))
    load_scan_loop.cache_clear()
    if request.param == "compiled" and load_scan_loop() is None:
        pytest.skip("scan_loop.c was not compiled here")
    yield
    load_scan_loop.cache_clear()


def bodies_of(values: list[str]) -> list[bytes]:
    """Bodies of one choice with each of these `logprobs` values."""
    return [f'{{"choices":[{{"index":0,"logprobs":{value}}}]}}'.encode() for value in values]


def scan(bodies: list[bytes]) -> Decoded:
    """Decode bodies, however small, with the scanner."""
    answers = [answer_with(body, prompt_index=n) for n, body in enumerate(bodies)]
    return decode_answers(answers, scanner_min_bytes=0)


def assert_rebuilt(decoded: Any, values: list[str]) -> None:
    """Check that the rebuilt values equal, to the bit, what Python's JSON reads from the wire."""
    assert decoded.failures == []

    rebuilt = rebuild(decoded)
    for number, value in enumerate(values):
        original = json.loads(value, parse_int=lambda digits: float(digits) if len(digits) < 10 else int(digits))
        back = json.loads(json.dumps(rebuilt[number * 10**8]), parse_int=lambda d: float(d) if len(d) < 10 else int(d))

        assert json.dumps(back, sort_keys=True).replace("-0.0", "0.0") == json.dumps(original, sort_keys=True).replace(
            "-0.0", "0.0"
        )


def test_regular_values_go_the_fast_way() -> None:
    """Any order of keys, white space, null bytes, escapes and sentinels are scanned."""
    decoded = scan(bodies_of(REGULAR))

    assert_scanned(decoded)
    assert_rebuilt(decoded, REGULAR)


def test_reasoning_beside_content_goes_the_fast_way() -> None:
    """Both lists of tokens that DeepSeek sends are scanned."""
    value = f'{{"content":[{ONE}],"reasoning_content":[{ONE},{ONE}]}}'
    message = '{"content":"a","reasoning_content":"aa"}'
    body = f'{{"choices":[{{"message":{message},"logprobs":{value}}}]}}'.encode()
    decoded = scan([body])

    assert_scanned(decoded)
    assert decoded.tokens.column("section").to_pylist() == ["content", "reasoning", "reasoning"]
    assert_rebuilt(decoded, [value])


@pytest.mark.parametrize("value", IRREGULAR)
def test_irregular_values_go_the_exact_way(value: str) -> None:
    """Extra, repeated and missing keys, and numbers beyond floats or columns, are read token by token."""
    values = [REGULAR[0], value, REGULAR[0]]
    decoded = scan(bodies_of(values))

    assert_scanned(decoded, but=[1])
    assert_rebuilt(decoded, values)


def test_alternatives_beyond_the_ranks_are_in_the_patch() -> None:
    """A rank is an Int16: of 2**15 + 1 alternatives 2**15 - 1 have rows, and all are rebuilt."""
    values = []
    for count in (1, 2**15 + 1, 2**15 - 1):
        listed = ",".join([f'{{"token":"b{n}","logprob":-2.5}}' for n in range(count)])
        values.append(f'{{"content":[{{"token":"a","logprob":-1.5,"top_logprobs":[{listed}]}}]}}')
    decoded = scan(bodies_of(values))

    assert_scanned(decoded, but=[1])
    assert_rebuilt(decoded, values)
    assert decoded.alternatives.column("rank").to_pylist() == [1, *range(1, 2**15), *range(1, 2**15)]

    wire = json.loads(decoded.completions.column("wire")[1].as_py())

    assert [path for path, _ in wire["patch"]] == [["content", 0, "top_logprobs", 2**15 - 1 + n] for n in range(2)]


def test_batches_decoded_in_parallel_keep_their_rows() -> None:
    """Threads reuse scan memory, and no batch has the rows of another."""
    values = [f'{{"content":[{",".join([ONE.replace("-1.5", f"-{n}.25")] * (1 + n % 50))}]}}' for n in range(400)]
    answers = [answer_with(body, prompt_index=n) for n, body in enumerate(bodies_of(values))]
    with Decoder(2, batch_bytes=20_000, scanner_min_bytes=0) as decoder:
        for _ in range(5):
            decoded = decoder.decode(answers)

            assert decoded.tokens.column("logprob").to_pylist() == [
                -n - 0.25 for n in range(400) for _ in range(1 + n % 50)
            ]
            assert_scanned(decoded)


@pytest.mark.parametrize(
    "body",
    [
        f'{{"debug":{{"logprobs":{REGULAR[0]}}},"choices":[{{"logprobs":{REGULAR[3]}}}]}}',
        f'{{"choices":[{{"logprobs":{REGULAR[0]},"seen":{{"logprobs":{REGULAR[3]}}}}}]}}',
        f'{{"choices":[{{"logprobs":0}},{{"index":1,"logprobs":{REGULAR[0]}}}]}}',
        f'{{"choices":[{{"logprobs":{REGULAR[0]}}},{{"index":1,"logprobs":null}}]}}',
        f'{{"choices":[{{"logprobs":{REGULAR[0]}}},{{"index":1}}]}}',
        f'{{"choices":[{{"message":{{"content":"\\"logprobs\\":{{}}"}},"logprobs":{REGULAR[0]}}}]}}',
        f'{{"choices":[{{"index":1,"logprobs":{REGULAR[3]}}},{{"index":0,"logprobs":  {REGULAR[0]} }}]}}',
        f'{{"choices":[{{"logprobs":{REGULAR[0]}}}],"choices":[{{"logprobs":{REGULAR[3]}}}]}}',
        f'{{"choices":[{{"logprobs":{REGULAR[0]},"logprobs":{REGULAR[3]}}}]}}',
    ],
)
def test_only_the_logprobs_of_choices_are_cut_out(body: str) -> None:
    """The key `logprobs` in other places does not change the tables."""
    answers = [answer_with(body.encode(), logprobs=False), answer_with(bodies_of(REGULAR[:1])[0], prompt_index=1)]
    fast = decode_answers(answers, scanner_min_bytes=0)
    exact = decode_answers(answers, scanner_min_bytes=1 << 60)

    for name in ("completions", "tokens", "alternatives"):
        assert getattr(fast, name).to_pylist() == getattr(exact, name).to_pylist()
    assert repr(fast.failures) == repr(exact.failures)


def test_a_body_that_is_not_utf8_fails_alone() -> None:
    """The scanner does not check UTF-8, and a table must hold nothing else."""
    bodies = bodies_of(REGULAR[:3])
    bodies[1] = bodies[1].replace(b'"token":"a"', b'"token":"\xff"')
    decoded = scan(bodies)

    assert [(index, str(error)[:30]) for index, error in decoded.failures] == [(1, "the answer is not UTF-8 at byt")]
    assert_scanned(decoded)
    decoded.tokens.validate(full=True)


def test_minus_zero_keeps_its_sign() -> None:
    """`-0.0` keeps its sign; the integer `-0` has none."""
    values = [f'{{"content":[{{"token":"a","logprob":{zero}}}]}}' for zero in ("-0.0", "-0", "0.0", "0", "-0e0")]
    decoded = scan(bodies_of(values))

    assert list(map(str, decoded.tokens.column("logprob").to_pylist())) == ["-0.0", "0.0", "0.0", "0.0", "-0.0"]
    assert_scanned(decoded, but=[1])
