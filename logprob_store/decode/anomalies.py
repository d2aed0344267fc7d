"""What is odd about decoded answers, counted: so that nobody has to find out later why a number looks wrong.

Holds one pass over the tables of a part. Leaves out mending anything: the rows stay what the wire said.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from logprob_store.decode.request_differences import count_differences
from logprob_store.schema import Section
from logprob_store.token_bytes import ESCAPED_PREFIX, bytes_of_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from logprob_store.request import Answer

_REPLACEMENT: Final = "\ufffd".encode()
_SUM_IS_OFF_BY: Final = 0.02
_NO_LISTS: Final = ('{"shape":"null"', '{"shape":"absent"', '{"shape":"other"')
"""How the `wire` column begins where the server gave no list of tokens, not even an empty one."""

_DECIDED: Final = '{"shape":"decisions"'
"""How it begins where questions were answered, and nothing was written."""

_POSITION: Final = ("completion_id", "section", "position")
_TEXTS: Final = {"content": "text", "refusal": "refusal"}
"""Which column of completions a section's tokens spell."""


def count_anomalies(
    completions: pa.Table, tokens: pa.Table, alternatives: pa.Table, *, answers: Sequence[Answer] = ()
) -> dict[str, int]:
    """Count what is odd in the tables of one part, sorted as the contract says.

    Args:
        completions: the table.
        tokens: the table.
        alternatives: the table.
        answers: of the part, whose requests say for which completions logprobs were asked for.

    Returns:
        `flagged`: tokens and alternatives whose wire value is no log-probability; `chosen_missing`: tokens that have
        alternatives but are not among them; `text_differs`: completions whose tokens spell another text than the
        server gave; `lossy_bytes`: tokens whose bytes hold U+FFFD, for which the true bytes are lost; `without_tokens`:
        completions without a token though logprobs were asked for, because they have no text: tool calls alone, or a
        limit that reasoning used up; and what `request_differences` counts.
    """
    return {
        "flagged": sum(len(table) - table["logprob_flag"].null_count for table in (tokens, alternatives)),
        "chosen_missing": _chosen_missing(tokens, alternatives),
        "text_differs": _text_differs(completions, tokens),
        "lossy_bytes": _lossy(tokens),
        "without_tokens": _without_tokens(completions, tokens, answers),
        **count_differences(completions, answers),
    }


def count_odd_decisions(decisions: pa.Table) -> dict[str, int]:
    """Count what is odd in the decisions of one part.

    Args:
        decisions: the table.

    Returns:
        `refused_questions`: questions that the server refused; `unanswered_questions`: those without an answer that can
        be read; `sums_differ`: those whose probabilities are not all given, or do not sum to 1 by more than 0.02.
    """
    names = ("refused_questions", "unanswered_questions", "sums_differ")
    if not decisions.num_rows:
        return dict.fromkeys(names, 0)
    held = ("completion_id", "question_index", "refused", "option_index", "probability")
    options = pl.col("option_index").count()
    is_off = (pl.col("probability").null_count() > 0) | ((pl.col("probability").sum() - 1.0).abs() > _SUM_IS_OFF_BY)
    questions = pl.DataFrame(pl.from_arrow(decisions.select(held))).group_by(held[:2])
    found = questions.agg(
        refused_questions=pl.col("refused").first(),
        unanswered_questions=~pl.col("refused").first() & (options == 0),
        sums_differ=(options > 0) & is_off,
    )
    return {name: int(found[name].sum()) for name in names}


def _without_tokens(completions: pa.Table, tokens: pa.Table, answers: Sequence[Answer]) -> int:
    bare = completions.filter(pc.equal(completions["token_count"], pa.scalar(0, pa.int32())))
    if not bare.num_rows:
        return 0
    asked = {(one.request.prompt_index, one.request.sample_index) for one in answers if one.request.asks_logprobs}
    has_prompt = pc.is_in(bare["completion_id"], value_set=pc.unique(tokens["completion_id"]))
    names = ("prompt_index", "sample_index", "wire", "tool_calls", "completion_tokens")
    rows = zip(*(bare[name].to_pylist() for name in names), has_prompt.to_pylist(), strict=True)
    return sum(
        (prompt_index, sample_index) in asked
        and not (scores or wire.startswith(_DECIDED))
        and bool(calls or used or wire.startswith(_NO_LISTS))
        for prompt_index, sample_index, wire, calls, used, scores in rows
    )


def _chosen_missing(tokens: pa.Table, alternatives: pa.Table) -> int:
    if not alternatives.num_rows:
        return 0
    first = pc.equal(alternatives["rank"], pa.scalar(1, pa.int16()))
    if pc.sum(first).as_py() == tokens.num_rows:
        # All tokens have alternatives, and most are the first of them: of the others all have to be looked at.
        same = pc.equal(tokens["token"], alternatives["token"].filter(first))
        doubtful = _frame(tokens.filter(pc.invert(pc.fill_null(same, fill_value=False))))
    else:
        doubtful = _frame(tokens).join(_frame(alternatives.filter(first)), on=_POSITION, how="semi")
    if doubtful.is_empty():
        return 0
    chosen = doubtful.lazy().rename({"token": "chosen", "token_id": "chosen_id"})
    same_id = pl.col("token").is_null() & (pl.col("token_id") == pl.col("chosen_id"))  # some servers send ids alone
    is_chosen = (pl.col("token") == pl.col("chosen")).fill_null(value=False) | same_id
    listed = _frame(alternatives).lazy().join(chosen, on=_POSITION, how="inner").filter(is_chosen)
    return doubtful.height - int(listed.select(_POSITION).unique().select(pl.len()).collect().item())


def _frame(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table.select([*_POSITION, "token", "token_id"])))


def _text_differs(completions: pa.Table, tokens: pa.Table) -> int:
    spelled = {(key, section): text for key, section, text in _spelled(tokens)}
    differs = 0
    ids = completions["completion_id"].to_pylist()
    texts = {section: completions[column].to_pylist() for section, column in _TEXTS.items()}
    for row, key in enumerate(ids):
        differs += any(
            (spelled[key, section] != (texts[section][row] or "").encode())
            for section in _TEXTS
            if (key, section) in spelled
        )
    return differs


def _spelled(tokens: pa.Table) -> Iterator[tuple[int, str, bytes]]:
    """For each section of each completion, what its tokens spell, read off Arrow's own buffers without copying rows."""
    columns = tokens.select(["completion_id", "section", "token", "bytes"]).combine_chunks()
    sections = Section.categories.to_list()
    for batch in columns.to_batches():
        ids, codes = batch.column(0), batch.column(1).indices
        run = pc.add(pc.multiply(ids, len(sections)), codes.cast(pa.int64()))
        encoded = pc.run_end_encode(run, run_end_type=pa.int64())
        spans = pairwise([0, *encoded.run_ends.to_pylist()])
        raw = _token_bytes(batch.column(2), batch.column(3))
        for (start, stop), value in zip(spans, encoded.values.to_pylist(), strict=True):
            if _has_null(raw, start, stop):
                continue  # tokens without text spell nothing that could differ
            key, section = divmod(value, len(sections))
            yield key, sections[section], _joined(raw, start, stop)


def _token_bytes(texts: pa.Array, raw: pa.Array) -> pa.Array:
    """The bytes of each token; nothing is copied where all have bytes, or none has and no string is escaped."""
    if not raw.null_count:
        return raw
    if raw.null_count == len(raw) and not pc.any(pc.starts_with(texts, ESCAPED_PREFIX)).as_py():
        return texts
    found = bytes_of_tokens(pl.Series(pl.from_arrow(texts)), pl.Series(pl.from_arrow(raw)))
    return found.to_arrow(compat_level=pl.CompatLevel.oldest())


def _has_null(column: pa.Array, start: int, stop: int) -> bool:
    return bool(column.null_count and column.slice(start, stop - start).null_count)


def _joined(column: Any, start: int, stop: int) -> bytes:
    """The bytes of neighbouring values: in Arrow they lie one behind the other."""
    _, offsets, held = column.buffers()
    if held is None:
        return b""
    at = memoryview(offsets).cast("q")
    return bytes(held[at[column.offset + start] : at[column.offset + stop]])


def _lossy(tokens: pa.Table) -> int:
    found = pc.match_substring(tokens["bytes"], _REPLACEMENT)
    return int(pc.sum(found).as_py() or 0)
