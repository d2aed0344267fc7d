"""What a run has spent: the calls that a process left open when it died."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from builders import completions_answer

from logprob_store.cache.answers import AnswerCache
from logprob_store.run.spent import answered_calls
from logprob_store.store.call_log import OpenCall
from logprob_store.usage import Usage

if TYPE_CHECKING:
    from pathlib import Path

TOOK = Usage(5000, 0, 5)
SAID = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 5}}


@pytest.mark.parametrize(("is_answered", "expected"), [(True, TOOK), (False, Usage(1, 0, 5))], ids=["noted", "not"])
def test_what_was_judged_beside_its_request_is_not_judged_again(
    tmp_path: Path, *, is_answered: bool, expected: Usage
) -> None:
    """One token for a prompt of 5000 bytes is not believed; where only the answer is known, it would be."""
    answer = completions_answer("x" * 5000, SAID, run="r", call=1)
    call = OpenCall(1, answer.request.key, TOOK, is_answered)

    with AnswerCache(tmp_path) as cache:
        cache.put_many([answer])

        assert answered_calls(cache, "r", None, [call]) == {1: expected}
