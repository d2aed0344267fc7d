"""One completion, failure or token as JSON: what was asked, what was said and almost said, and what others said.

Only the part that has the completion is read.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import msgspec
import polars as pl

from logprob_store.analysis.opened_store import Store
from logprob_store.errors import InputError
from logprob_store.explorer.preparing import KEPT, SCORES
from logprob_store.metrics.labels.decided import option_label
from logprob_store.metrics.tokens.windows import written_order
from logprob_store.metrics.two_runs.answer_pairs import compared_positions
from logprob_store.schema import KEYS
from logprob_store.view.page.token_view import token_views

if TYPE_CHECKING:
    from logprob_store.explorer.questions import Questions
    from logprob_store.store.manifest import Part

MOST_TOKENS: Final = 4000
"""Tokens of one completion that a page shows."""
_MOST_ALTERNATIVES: Final = 20
_MOST_OTHERS: Final = 50
_LONGEST_TEXT: Final = 100_000
_MOST_EXAMPLES: Final = 20
_LIKE: Final = (
    *("run", "completion_id", "prompt_index", "sample_index", "choice_index", "model", "finish_reason", "error_type"),
    "text",
)


def one_completion(questions: Questions, run: str, completion_id: int, *, passed_over: int = 0) -> dict[str, Any]:
    """A completion: its prompt, tokens, scores, the other answers to its prompt here and in other runs.

    `tokens` has 4,000 of its tokens. Its `left_out` counts those behind them, and its `before` those before them.

    Args:
        questions: over the prepared rows.
        run: the run that it is of.
        completion_id: its id.
        passed_over: how many tokens stand before the first one that is wanted.

    Raises:
        InputError: there is no such completion.
    """
    row = row_of(questions, run, completion_id)
    part = part_of(questions, run, row["part"])
    is_it = pl.col("completion_id") == completion_id
    whole, tokens, alternatives, decisions = pl.collect_all(
        [table.filter(is_it) for table in (part.completions, part.tokens, part.alternatives, part.decisions)]
    )
    (said,) = whole.to_dicts()
    wanted = tokens.sort(*KEYS, written_order()).slice(passed_over)
    views = token_views(wanted, alternatives, most_tokens=MOST_TOKENS, most_alternatives=_MOST_ALTERNATIVES)
    view = views.get((run, completion_id), {"sections": [], "left_out": 0})
    return {
        "run": run,
        "completion_id": completion_id,
        **{name: row[name] for name in ("prompt_id", "sample_index", "choice_index", "model", "finish_reason")},
        "scores": {name: row[name] for name in SCORES if row[name] is not None},
        "label": row["label"],
        "verdict": row["verdict"],
        "kept": {
            name.removeprefix(KEPT): None if value is None else str(value)
            for name, value in row.items()
            if name.startswith(KEPT)
        },
        "facts": {name: _plain(said[name]) for name in _FACTS if said[name] is not None},
        "text": _cut(said["text"]),
        "refusal": _cut(said["refusal"]),
        "tool_calls": _cut(said["tool_calls"]),
        "prompt": _prompt(questions.prepared.store.only(run), row["prompt_index"]),
        "tokens": {**view, "before": min(passed_over, tokens.height)},
        "decisions": _decisions(decisions),
        "others": _others(questions, row),
    }


_FACTS: Final = (
    *("endpoint", "response_model", "response_id", "system_fingerprint", "service_tier", "created", "source"),
    *("attempts", "maybe_billed", "prompt_tokens", "completion_tokens", "request_key"),
)


def one_failure(questions: Questions, run: str, prompt_index: int, sample_index: int) -> dict[str, Any]:
    """A call that failed: its prompt, and the whole message.

    Raises:
        InputError: there is no such failure.
    """
    _check_run(questions, run)
    store = questions.prepared.store.only(run)
    is_it = (pl.col("prompt_index") == prompt_index) & (pl.col("sample_index") == sample_index)
    found = store.failures.filter(is_it).collect().to_dicts()
    if not found:
        raise InputError(f"run {run} has no failure of prompt {prompt_index}, sample {sample_index}")
    row = found[0]
    return {
        **{name: _plain(value) for name, value in row.items()},
        "message": _cut(row["message"]),
        "prompt": _prompt(store, prompt_index),
        "others": _others(questions, {**row, "choice_index": 0, "completion_id": None}),
    }


def compared(questions: Questions, first: tuple[str, int], second: tuple[str, int]) -> dict[str, Any]:
    """Two completions beside each other: both, where they begin to differ, and how far apart the models were till then.

    `difference` is the section and position of the first token that differs, null where none does. `places` has, for
    each place up to it where both runs have alternatives, the Jensen-Shannon divergence in nats.

    Raises:
        InputError: there is no such completion.
    """
    sides = [one_completion(questions, *key) for key in (first, second)]
    tables = []
    for run, completion_id in (first, second):
        part = part_of(questions, run, row_of(questions, run, completion_id)["part"])
        is_it = pl.col("completion_id") == completion_id
        tables.append((part.tokens.filter(is_it), part.alternatives.filter(is_it), part.completions.filter(is_it)))
    pair = {"completion_id_a": [first[1]], "completion_id_b": [second[1]]}
    keys = {"prompt_id": [sides[0]["prompt_id"]], "sample_index": 0, "choice_index": 0}
    pairs = pl.DataFrame({"pair": [0], **keys, **pair}, schema_overrides={"pair": pl.Int64})
    places = compared_positions(tables[0], tables[1], pairs)
    differs = places.filter(~pl.col("same_token")).head(1)
    return {
        "sides": sides,
        "difference": None if not differs.height else [str(differs["section"][0]), differs["position"][0]],
        "places": [
            [section, position, round(js, 5)]
            for section, position, js in places.select("section", "position", "js").iter_rows()
            if js is not None
        ],
    }


def one_token(questions: Questions, run: str, completion_id: int, section: str, position: int) -> dict[str, Any]:
    """A token: what was almost written in its place, and where else it was written, or almost.

    `elsewhere` counts, over all prepared runs, how often this token was written and how often it was an alternative
    that was not, with the mean logprob of each and a few places.

    Raises:
        InputError: there is no such token.
    """
    row = row_of(questions, run, completion_id)
    part = part_of(questions, run, row["part"])
    place = (
        (pl.col("completion_id") == completion_id)
        & (pl.col("section").cast(pl.String) == section)
        & (pl.col("position") == position)
    )
    tokens, alternatives = pl.collect_all([part.tokens.filter(place), part.alternatives.filter(place)])
    if not tokens.height:
        raise InputError(f"completion {completion_id} of run {run} has no token {position} in its section {section!r}")
    key = _key(tokens)
    return {
        "run": run,
        "completion_id": completion_id,
        "section": section,
        "position": position,
        "prompt_id": row["prompt_id"],
        "tokens": token_views(tokens, alternatives)[run, completion_id],
        "elsewhere": None if key is None else _elsewhere(questions, key),
    }


def _elsewhere(questions: Questions, key: bytes) -> dict[str, Any]:
    """How often a token was written, and almost, over all prepared runs, with a few places of each."""
    rows = questions.prepared.tokens.filter(pl.col("key") == key)
    found: dict[str, Any] = {}
    for kind in ("written", "almost"):
        count, mean = pl.col(kind).sum(), (pl.col(f"{kind}_logprob") * pl.col(kind)).sum() / pl.col(kind).sum()
        times, logprob = rows.select(count, mean.alias("mean")).row(0)
        places = rows.select("run", f"{kind}_at").explode(f"{kind}_at").drop_nulls(f"{kind}_at").head(_MOST_EXAMPLES)
        shown = places.unnest(f"{kind}_at").with_columns(pl.col("run", "section").cast(pl.String))
        beside = shown.join(
            questions.rows.filter(pl.col("completion_id").is_in(shown["completion_id"].implode())).select(
                pl.col("run").cast(pl.String), "completion_id", "prompt_id", "text"
            ),
            on=["run", "completion_id"],
            how="left",
            maintain_order="left",
        )
        found[kind] = {"times": times, "mean_logprob": logprob if times else None, "places": beside.to_dicts()}
    return found


def _key(tokens: pl.DataFrame) -> bytes | None:
    from logprob_store.token_bytes import token_bytes

    key: bytes | None = tokens.select(token_bytes()).item(0, 0)
    return key


def _check_run(questions: Questions, run: str) -> None:
    if run not in questions.prepared.store.run_names:
        raise InputError(f"run {run!r} is not open here; these are: {', '.join(questions.prepared.store.run_names)}")


def row_of(questions: Questions, run: str, completion_id: int) -> dict[str, Any]:
    """The prepared row of a completion.

    Raises:
        InputError: there is none.
    """
    _check_run(questions, run)
    found = questions.rows.filter((pl.col("run") == run) & (pl.col("completion_id") == completion_id)).drop("search")
    if not found.height:
        raise InputError(f"run {run} has no completion {completion_id}")
    return found.to_dicts()[0]


def part_of(questions: Questions, run: str, number: int) -> Store:
    """A store with one part of a run."""
    store = questions.prepared.store.only(run)
    manifest = store.manifests[0]
    name = f"part-{number:05d}"
    parts: list[Part] = [part for part in manifest.parts if part.name == name]
    return Store(store.path, (msgspec.structs.replace(manifest, parts=parts),))


def _prompt(run: Store, prompt_index: int) -> list[dict[str, str]]:
    """The messages of a prompt, each with the role of who speaks and a text; empty where the run has not its row."""
    found = run.prompts.filter(pl.col("prompt_index") == prompt_index).select("messages").head(1).collect()
    if not found.height or found.item() is None:
        return []
    written: str = found.item()
    try:
        messages = json.loads(written)
    except json.JSONDecodeError:
        messages = written
    if not isinstance(messages, list):
        return [{"role": "", "text": _cut(_as_text(messages)) or ""}]
    return [
        {"role": str(one.get("role", "")), "text": _cut(_as_text(one.get("content"))) or ""}
        if isinstance(one, dict)
        else {"role": "", "text": _cut(_as_text(one)) or ""}
        for one in messages
    ]


def _as_text(value: Any) -> str:
    """A message's content as text: its parts of text one after another, and JSON of what is not text."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in value):
        return "\n".join(part["text"] for part in value)
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _decisions(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """The options of typed questions with their probabilities."""
    names = ("question", "refused", "value", "label", "chosen", "probability", "confidence", "score")
    return [
        {name: _plain(value) for name, value in row.items()}
        for row in rows.with_columns(value=option_label()).select(names).to_dicts()
    ]


def _others(questions: Questions, row: dict[str, Any]) -> list[dict[str, Any]]:
    """The other answers to the same prompt, in this run and in others: one prompt has one id in all runs of a job."""
    same = (pl.col("prompt_id") == row["prompt_id"]) & ~(
        (pl.col("run") == row["run"])
        & pl.col("completion_id").eq_missing(row["completion_id"])
        & (pl.col("sample_index") == row["sample_index"])
    )
    found = questions.rows.filter(same).head(_MOST_OTHERS).select(*_LIKE, "confidence", "label", "verdict")
    return [{name: _plain(value) for name, value in one.items()} for one in found.to_dicts()]


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= _LONGEST_TEXT:
        return text
    return f"{text[:_LONGEST_TEXT]} … ({len(text):,} characters)"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)
