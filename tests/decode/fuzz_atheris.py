"""Coverage-guided fuzzing of `decode_answers` over all wire formats. A script, not a test.

    pip install atheris                                      # where there is a wheel for this Python
    python tests/decode/fuzz_atheris.py -max_total_time=300  # any option of libFuzzer; a folder given keeps the corpus

The first bytes of each input choose a body of `seeds.py` and how to damage it, or that the input is the body. An input
that breaks a law of `seeds.check`, raises or takes over ten seconds is written to `crash-*` or `timeout-*`; give that
file as the argument to run it again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["logprob_store.decode"], enable_loader_override=False):
    import logprob_store.decode
    from logprob_store.decode.decoder import SCANNER_MIN_BYTES

sys.path.insert(0, str(Path(__file__).parents[1]))

from decode import seeds

NAMES = sorted(seeds.contents())


def test_one_input(data: bytes) -> None:
    """Decode one body, made or damaged as the bytes say."""
    made = atheris.FuzzedDataProvider(data)
    scanner_min_bytes = (0, SCANNER_MIN_BYTES)[made.ConsumeIntInRange(0, 1)]
    asked = made.ConsumeBool()
    name = NAMES[made.ConsumeIntInRange(0, len(NAMES) - 1)]
    how = made.ConsumeIntInRange(0, 3)
    times = made.ConsumeIntInRange(1, 6)
    content = seeds.contents()[name]

    def pick(count: int) -> int:
        return int(made.ConsumeIntInRange(0, count - 1))

    if how == 0:
        content = made.ConsumeBytes(made.remaining_bytes())
    elif how == 1:
        for _ in range(times):
            content = seeds.damage_bytes(content, pick)
    else:
        body = seeds.BODIES.get(name, seeds.BODIES["chat"])
        for _ in range(times):
            body = seeds.damage_structure(body, pick)
        content = json.dumps(body).encode()
        if how == 3:
            content = seeds.damage_bytes(content, pick)
    seeds.check(content, asked=asked, scanner_min_bytes=scanner_min_bytes)


if __name__ == "__main__":
    assert logprob_store.decode  # instrumented above
    atheris.Setup([sys.argv[0], "-timeout=10", "-max_len=300", "-len_control=0", *sys.argv[1:]], test_one_input)
    atheris.Fuzz()
