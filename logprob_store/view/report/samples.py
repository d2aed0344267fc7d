"""Which answers of a run a report shows, and all that is to be seen of each.

A run may have a million answers and a report has room for some two hundred: the least sure, those that changed most
since the run before, a random few, and the failed ones.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import msgspec
import polars as pl

from logprob_store.metrics.labels.decided import option_label
from logprob_store.schema import KEYS
from logprob_store.view.page.token_view import token_views
from logprob_store.view.report.sections import SCORES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from logprob_store.analysis.opened_store import Store

EACH_GROUP: Final = 50
"""Answers of each kind that are chosen; equal ones are shown once."""
_MOST_TOKENS: Final = 1500
_MOST_ALTERNATIVES: Final = 10
_LONGEST_PROMPT: Final = 4000
_LONGEST_KEPT: Final = 300
_LONGEST_MESSAGE: Final = 1000
"""Characters."""
_SEED: Final = 20
_LOADED_AT_ONCE: Final = 20
Sample = dict[str, Any]


def chosen_answers(scores: pl.DataFrame, changed: pl.DataFrame | None) -> dict[str, list[int]]:
    """The completion_ids of each group, the first of a group first.

    Args:
        scores: one row a completion of the run, with `confidence`.
        changed: the pairs of a comparison in which this run is run b; None for none.
    """
    least = scores.filter(pl.col("confidence").is_not_null()).bottom_k(EACH_GROUP, by=["confidence", "completion_id"])
    least = least.sort("confidence", "completion_id")
    by_chance = scores.select("completion_id").sample(min(EACH_GROUP, scores.height), seed=_SEED, shuffle=True)
    groups = {"least sure": least["completion_id"].to_list()}
    if changed is not None:
        order = ["flip", "mean_js", pl.col("delta_confidence").abs(), "prompt_id"]
        both = changed.filter(pl.col("flip") | (pl.col("mean_js") > 0))
        first = both.sort(order, descending=[True, True, True, False], nulls_last=True).head(EACH_GROUP)
        groups["changed most"] = first["completion_id_b"].to_list()
    return groups | {"random": by_chance["completion_id"].to_list()}


def loaded_samples(
    store: Store,
    scores: pl.DataFrame,
    groups: dict[str, list[int]],
    *,
    changed: pl.DataFrame | None,
    earlier: Store | None,
    correct: pl.DataFrame | None,
) -> Iterator[Sample]:
    """The answers of the groups in turn: the first of each group, then the second of each.

    Args:
        store: the store with the one run.
        scores: as for `chosen_answers`.
        groups: what `chosen_answers` gave.
        changed: the pairs of the comparison.
        earlier: the store with the run that was compared with.
        correct: completion_id and `correct`, of the answers whose truth is known.
    """
    named: dict[int, dict[str, int]] = {}
    for group, ids in groups.items():
        for place, completion in enumerate(ids):
            named.setdefault(completion, {})[group] = place
    order = list(_in_turn(groups.values()))
    for start in range(0, len(order), _LOADED_AT_ONCE):
        ids = order[start : start + _LOADED_AT_ONCE]
        yield from _samples(store, scores, ids, named, changed=changed, earlier=earlier, correct=correct)


def _samples(
    store: Store,
    scores: pl.DataFrame,
    ids: list[int],
    named: dict[int, dict[str, int]],
    *,
    changed: pl.DataFrame | None,
    earlier: Store | None,
    correct: pl.DataFrame | None,
) -> Iterator[Sample]:
    views = views_of(store, ids)
    before = {} if changed is None or earlier is None else _before(earlier, changed, ids)
    right = {} if correct is None else dict(correct.filter(pl.col("completion_id").is_in(ids)).iter_rows())
    rows = {row["completion_id"]: row for row in scores.filter(pl.col("completion_id").is_in(ids)).to_dicts()}
    prompts = _prompts(store, [row["prompt_index"] for row in rows.values()])
    options = _options(store, ids)
    written = _written(store, ids)
    for completion in ids:
        row = rows[completion]
        yield {
            "id": str(completion),
            "prompt_id": row["prompt_id"],
            "groups": named[completion],
            "sample": row["sample_index"],
            "choice": row["choice_index"],
            "finish": row["finish_reason"],
            "scores": {name: _to_seven_digits(row.get(name)) for name in SCORES},
            "right": right.get(completion),
            "view": views.get((store.run_names[0], completion), {"sections": [], "left_out": 0}),
            "options": options.get(completion, []),
            "before": before.get(completion),
            **written.get(completion, {}),
            **prompts.get(row["prompt_index"], {}),
        }


def _to_seven_digits(value: float | None) -> float | None:
    """A score without its last digits, which depend on the order in which a sum was made."""
    return None if value is None else float(f"{value:.7g}")


def views_of(store: Store, ids: Sequence[int]) -> dict[tuple[str, int], dict[str, Any]]:
    """The token views of some completions of a store with one run."""
    wanted = pl.col("completion_id").is_in(ids)
    tokens, alternatives = pl.collect_all(
        [table.filter(wanted) for table in (store.tokens, store.alternatives)], engine="streaming"
    )
    return token_views(tokens, alternatives, most_tokens=_MOST_TOKENS, most_alternatives=_MOST_ALTERNATIVES)


def failed_samples(store: Store) -> Iterator[Sample]:
    """The first failures of each class of a store with one run, the classes in turn."""
    failures = store.failures.filter(pl.int_range(pl.len()).over("error_type") < EACH_GROUP).collect()
    by_class = failures.with_row_index().group_by("error_type", maintain_order=True).agg("index")["index"].to_list()
    found = failures[list(_in_turn(by_class))[:EACH_GROUP]]
    prompts = _prompts(store, found["prompt_index"].to_list())
    for place, row in enumerate(found.iter_rows(named=True)):
        yield {
            "id": "",
            "prompt_id": row["prompt_id"],
            "groups": {"failed": place},
            "sample": row["sample_index"],
            "failure": {
                "class": row["error_type"],
                "status": row["status"],
                "message": _cut(row["message"] or "", _LONGEST_MESSAGE),
                "attempts": row["attempts"],
            },
            **prompts.get(row["prompt_index"], {}),
        }


def _views_in(sample: Sample) -> list[dict[str, Any]]:
    """The views of a sample: of its answer, and of the earlier one."""
    before = sample.get("before") or {}
    return [view for view in (sample.get("view"), before.get("view")) if view]


def keep_alternatives(sample: Sample, most: int) -> bool:
    """Keep the likeliest alternatives of each token and the chosen one; whether there are tokens to do so."""
    tokens = [
        token
        for view in _views_in(sample)
        for section in view["sections"]
        for _, own in section["spans"]
        for token in own
    ]
    for token in tokens:
        token[-1] = [one for place, one in enumerate(token[-1]) if place < most or one[-1]]
    return bool(tokens)


def halve(sample: Sample) -> bool:
    """Leave out the second half of the tokens of an answer, and of the earlier one; whether there were any."""
    is_shorter = False
    for view in _views_in(sample):
        kept = sum(len(section["spans"]) for section in view["sections"]) // 2
        for section in view["sections"]:
            left_out = section["spans"][kept:]
            section["spans"] = section["spans"][:kept]
            kept -= len(section["spans"])
            view["left_out"] += sum(len(tokens) for _, tokens in left_out)
            is_shorter = is_shorter or bool(left_out)
        view["sections"] = [section for section in view["sections"] if section["spans"]]
    return is_shorter


def _in_turn(lists: Iterable[Sequence[int]]) -> Iterator[int]:
    """The first of each list, then the second of each; a value that was given is not given again.

    >>> list(_in_turn([[1, 2, 3], [2, 9]]))
    [1, 2, 9, 3]
    """
    every = list(lists)
    given: set[int] = set()
    for place in range(max(map(len, every), default=0)):
        for values in every:
            if place < len(values) and values[place] not in given:
                given.add(values[place])
                yield values[place]


def _before(earlier: Store, changed: pl.DataFrame, ids: list[int]) -> dict[int, dict[str, Any]]:
    """What the earlier run had answered in place of each of these, and the first token that differs."""
    columns = ("completion_id_b", "completion_id_a", "flip", "first_difference", "difference_section", "mean_js")
    pairs = changed.filter(pl.col("completion_id_b").is_in(ids) & pl.col("completion_id_a").is_not_null())
    rows = pairs.select(columns).to_dicts()
    views = views_of(earlier, [row["completion_id_a"] for row in rows])
    run = earlier.run_names[0]
    return {
        row["completion_id_b"]: {
            "run": run,
            "flip": row["flip"],
            "position": row["first_difference"],
            "section": row["difference_section"],
            "js": row["mean_js"],
            "view": views.get((run, row["completion_id_a"])),
        }
        for row in rows
    }


def _options(store: Store, ids: list[int]) -> dict[int, list[dict[str, Any]]]:
    """The typed questions of each completion, each with its options and their probabilities."""
    if not store.has_decisions:
        return {}
    rows = store.decisions.filter(pl.col("completion_id").is_in(ids)).with_columns(label=option_label()).collect()
    found: dict[int, list[dict[str, Any]]] = {}
    for (completion, _, question), options in rows.sort("completion_id", "question_index", "option_index").group_by(
        "completion_id", "question_index", "question", maintain_order=True
    ):
        listed = options.select("label", "probability", pl.col("chosen").cast(pl.Int8)).rows()
        found.setdefault(int(str(completion)), []).append({"question": question, "options": listed})
    return found


def _written(store: Store, ids: list[int]) -> dict[int, dict[str, str]]:
    """What the answers say beside their tokens: tool calls, and the text of those without tokens."""
    rows = store.completions.filter(pl.col("completion_id").is_in(ids))
    found = {}
    for completion, text, tools, tokens in (
        rows.select("completion_id", "text", "tool_calls", "token_count").collect().iter_rows()
    ):
        said = {"text": None if tokens else text, "tools": tools}
        found[completion] = {name: _cut(value, _LONGEST_PROMPT) for name, value in said.items() if value}
    return found


def _prompts(store: Store, indices: list[int]) -> dict[int, dict[str, Any]]:
    """The messages and kept columns of some prompts, by prompt_index."""
    rows = store.prompts.filter(pl.col("prompt_index").is_in(indices)).collect()
    kept = [name for name in rows.columns if name not in {*KEYS, "prompt_id", "prompt_index", "messages"}]
    return {
        row["prompt_index"]: {
            "prompt": prompt_messages(row["messages"]),
            "kept": {name: _cut(str(row[name]), _LONGEST_KEPT) for name in kept if row[name] is not None},
        }
        for row in rows.iter_rows(named=True)
    }


def prompt_messages(stored: str | None) -> list[list[str]]:
    """The stored messages of a prompt as pairs of role and text, each text cut to what a page shows.

    >>> prompt_messages('[{"role": "user", "content": "Hi"}]'), prompt_messages('"Once upon"')
    ([['user', 'Hi']], [['prompt', 'Once upon']])
    """
    if stored is None:
        return []
    try:
        messages = msgspec.json.decode(stored)
    except msgspec.DecodeError:
        messages = stored
    if not isinstance(messages, list):
        return [["prompt", _message_text(messages)]]
    found = []
    for message in messages:
        is_message = isinstance(message, dict)
        role = str(message.get("role", "prompt")) if is_message else "prompt"
        found.append([role, _message_text(message.get("content", message) if is_message else message)])
    return found


def _message_text(content: Any) -> str:
    """The text of a message: itself, or its parts one after the other."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        content = "\n".join(
            text if isinstance(text, str) else json.dumps(part, ensure_ascii=False)
            for text, part in zip(parts, content, strict=True)
        )
    return _cut(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), _LONGEST_PROMPT)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]} … ({len(text):,} characters)"
