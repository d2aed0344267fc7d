"""What came and was not asked for: fewer or more choices, another model, another service tier."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pyarrow.compute as pc

from logprob_store.usage import tier_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from logprob_store.request import Answer

_TIERS_LEFT_TO_THE_SERVER: Final = (None, "auto")
_DEARER_TIER: Final = "priority"
"""The tier at a higher price than the usual one, which a server may also choose by itself."""
_VERSION: Final = re.compile(r"[-:@._]v?[0-9][-0-9.]*|[:@-](?:latest|preview|exp|free)|\.gguf")
"""What may stand behind the name that was asked for: a date, a number, a tag."""


def count_differences(completions: pa.Table, answers: Sequence[Answer]) -> dict[str, int]:
    """Count how the answers of a part differ from what was asked.

    Args:
        completions: the table of the part.
        answers: of the part; one whose request is not known differs in nothing.

    Returns:
        `choices_differ`: answers with other choices than those numbered from 0 to n - 1; `model_differs`: completions
        by another model than was asked for; `tier_differs`: answers from another service tier.
    """
    known = [answer for answer in answers if not answer.request.is_unknown]
    return {
        "choices_differ": _choices_differ(completions, known),
        "model_differs": _model_differs(completions),
        "tier_differs": _tiers_differ(completions, known),
    }


def _choices_differ(completions: pa.Table, answers: Sequence[Answer]) -> int:
    columns = (completions[name].to_pylist() for name in ("prompt_index", "sample_index", "choice_index"))
    calls: dict[tuple[int, int], list[int]] = {}
    for prompt_index, sample_index, choice_index in zip(*columns, strict=True):
        calls.setdefault((prompt_index, sample_index), []).append(choice_index)
    differ = 0
    for answer in answers:
        came = calls.get((answer.request.prompt_index, answer.request.sample_index))
        # An answer without a row is a failure, and counted as such.
        differ += came is not None and sorted(came) != list(range(asked_choices(answer.request.body)))
    return differ


def asked_choices(body: Mapping[str, Any]) -> int:
    """The number of choices that a request asks for.

    >>> asked_choices({}), asked_choices({"n": "2"}), asked_choices({"prompt": ["a", "b", "c"], "n": 2})
    (1, 2, 6)
    >>> asked_choices({"generationConfig": {"candidateCount": 3}})
    3
    """
    config = body.get("generationConfig")
    wanted = config.get("candidateCount") if isinstance(config, dict) else body.get("n")
    each = int(wanted) if isinstance(wanted, (int, str)) and str(wanted).isascii() and str(wanted).isdigit() else 1
    prompt = body.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and prompt and isinstance(prompt[0], (str, list)) else 1
    return each * prompts


def _model_differs(completions: pa.Table) -> int:
    pairs = Counter(zip(*(pc.cast(completions[name], "string").to_pylist() for name in _MODELS), strict=True))
    return sum(count for (asked, served), count in pairs.items() if not is_same_model(asked, served))


_MODELS: Final = ("model", "response_model")


def is_same_model(asked: str | None, served: str | None) -> bool:
    """Whether the model that answered is the one asked for, or a version of it; also where one of them is not named.

    >>> is_same_model("openai/gpt-4o", "gpt-4o-2024-08-06"), is_same_model("llama3.2", "llama3.2:latest")
    (True, True)
    >>> is_same_model("gpt-4o", "gpt-4o-mini"), is_same_model("gpt-4.1", "gpt-4o")
    (False, False)
    """
    if asked is None or served is None:
        return True
    one, other = sorted((name.lower().rpartition("/")[2] for name in (asked, served)), key=len)
    return one == other or (other.startswith(one) and _VERSION.fullmatch(other, len(one)) is not None)


def _tiers_differ(completions: pa.Table, answers: Sequence[Answer]) -> int:
    columns = (completions[name].to_pylist() for name in ("prompt_index", "sample_index", "service_tier"))
    served = {(prompt_index, sample_index): tier for prompt_index, sample_index, tier in zip(*columns, strict=True)}
    return sum(
        _is_other_tier(
            served.get((answer.request.prompt_index, answer.request.sample_index)),
            asked=answer.request.body.get("service_tier"),
        )
        for answer in answers
    )


def _is_other_tier(served: str | None, *, asked: Any) -> bool:
    if asked in _TIERS_LEFT_TO_THE_SERVER:
        return tier_of(served) == _DEARER_TIER
    return served is not None and tier_of(served) != tier_of(asked)
