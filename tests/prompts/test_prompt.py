"""What a row asks, and what is wrong with a row that cannot be asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.errors import PromptsError
from logprob_store.prompts.batches import read_prompts
from logprob_store.prompts.columns import Columns
from logprob_store.prompts.prompt import Prompt, rendered

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from logprob_store.prompts.input_files import InputFile

USER = {"role": "user", "content": "Hi"}


def problem(prompt: Prompt) -> tuple[str, str]:
    """The type and the text of what is wrong with a prompt that cannot be asked."""
    assert prompt.problem is not None
    assert (prompt.messages, prompt.params) == (None, {})
    return prompt.problem.error_type, str(prompt.problem)


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_a_prompt_column_is_a_user_message(tmp_path: Path, endpoint: str, one: Callable[..., Prompt]) -> None:
    """Without a system column there is one message."""
    assert one(tmp_path, {"t": ["Hi"]}, endpoint, prompt="t").messages == [USER]


def test_a_system_column_is_a_system_message_where_it_is_not_null(
    tmp_path: Path, put: Callable[..., list[InputFile]], read: Callable[..., list[Prompt]]
) -> None:
    """Beside `prompt`, `system` names a column; null means no system message."""
    prompts = read(put(tmp_path, {"t": ["Hi", "Hi"], "s": ["Be brief", None]}), prompt="t", system="s")

    assert [prompt.messages for prompt in prompts] == [
        [{"role": "system", "content": "Be brief"}, USER],
        [USER],
    ]


def test_a_template_and_its_system_template_are_filled(tmp_path: Path, one: Callable[..., Prompt]) -> None:
    """Beside `template`, `system` is itself a template."""
    prompt = one(tmp_path, {"a": ["x"], "b": [1]}, template="a={a}", system="b={b}")

    assert prompt.messages == [{"role": "system", "content": "b=1"}, {"role": "user", "content": "a=x"}]


@pytest.mark.parametrize("says", [{"prompt": "t"}, {"template": "{t}"}])
def test_completions_ask_plain_text(tmp_path: Path, says: dict[str, Any], one: Callable[..., Prompt]) -> None:
    """The completions endpoint has no messages."""
    assert one(tmp_path, {"t": ["Hi"]}, "completions", **says).messages == "Hi"


@pytest.mark.parametrize("says", [{"messages": "m"}, {"prompt": "t", "system": "s"}, {"template": "t", "system": "s"}])
def test_completions_take_neither_messages_nor_system(
    tmp_path: Path, says: dict[str, str], put: Callable[..., list[InputFile]]
) -> None:
    """Said up front, not at the first row."""
    with pytest.raises(PromptsError, match="completions endpoint takes plain text"):
        read_prompts(put(tmp_path, {"t": ["a"]}), Columns(**says), endpoint="completions")


def test_messages_as_json_text_are_sent_as_they_are(tmp_path: Path, one: Callable[..., Prompt]) -> None:
    """Nulls that somebody wrote are kept."""
    sent = [{"role": "assistant", "content": None}, USER]

    assert one(tmp_path, {"m": [json.dumps(sent)]}, messages="m").messages == sent


def test_responses_items_may_have_a_type_in_place_of_a_role(tmp_path: Path, one: Callable[..., Prompt]) -> None:
    """A function's output has no role on the responses endpoint, and is no message on chat."""
    items = json.dumps([{"type": "function_call_output", "call_id": "1", "output": "2"}])

    assert one(tmp_path, {"m": [items]}, "responses", messages="m").problem is None
    assert problem(one(tmp_path, {"m": [items]}, "chat", messages="m"))[0] == "bad_prompt"


def test_params_are_a_json_object(tmp_path: Path, one: Callable[..., Prompt]) -> None:
    """The model is a parameter like others."""
    prompt = one(tmp_path, {"t": ["Hi"], "p": ['{"model": "m", "stop": null}']}, prompt="t", params="p")

    assert prompt.params == {"model": "m", "stop": None}


@pytest.mark.parametrize("name", ["messages", "prompt", "input", "stream"])
@pytest.mark.parametrize("as_text", [True, False])
def test_params_cannot_set_what_the_job_fills(
    tmp_path: Path, name: str, one: Callable[..., Prompt], *, as_text: bool
) -> None:
    """Such a row is not asked, and the problem names the parameter."""
    value = json.dumps({name: "x"}) if as_text else {name: "x"}

    kind, text = problem(one(tmp_path, {"t": ["Hi"], "p": [value]}, prompt="t", params="p"))

    assert kind == "bad_prompt"
    assert f"column 'p' sets {name}" in text


@pytest.mark.parametrize(
    ("says", "column"), [({"prompt": "t"}, "t"), ({"template": "{u}{t}"}, "t"), ({"messages": "t"}, "t")]
)
def test_a_null_prompt_is_a_problem_that_says_where(
    tmp_path: Path,
    says: dict[str, str],
    column: str,
    put: Callable[..., list[InputFile]],
    read: Callable[..., list[Prompt]],
) -> None:
    """File, row in the file and column are named; the other rows are asked."""
    good = json.dumps([USER])
    table = {"t": [good, None], "u": ["x", "y"]}
    prompts = read(put(tmp_path, {"t": [good], "u": ["x"]}, table), **says)

    kind, text = problem(prompts[2])

    assert [prompt.problem for prompt in prompts[:2]] == [None, None]
    assert kind == "null_prompt"
    assert text.startswith(f"1.parquet, row 1: column {column!r} is null")


def test_a_column_that_is_null_throughout_is_a_problem_of_every_row(tmp_path: Path, one: Callable[..., Prompt]) -> None:
    """Arrow gives such a column a type of its own."""
    assert problem(one(tmp_path, {"t": pa.nulls(1)}, prompt="t"))[0] == "null_prompt"


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("{", "not JSON"),
        ('"Hi"', "expected a list"),
        ("{}", "expected a list"),
        ("[]", "at least one message"),
        ('["Hi"]', "message 0 is 'Hi'"),
        ('[{"role":"user"},{"content":"x"}]', "message 1 is"),
        ('[{"role":7}]', "message 0 is"),
        ('[{"role":"user","content":"\\ud800"}]', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[NaN]", "not JSON"),
        ([], "at least one message"),
        ([None], "message 0 is None"),
        ([{"role": None}], "message 0 is"),
    ],
)
def test_messages_that_are_none_are_a_problem(
    tmp_path: Path, value: Any, what: str, one: Callable[..., Prompt]
) -> None:
    """What is wrong is named; nothing a row holds stops the job."""
    column = pa.array([value], pa.string() if isinstance(value, str) else pa.list_(pa.struct({"role": pa.string()})))

    kind, text = problem(one(tmp_path, {"m": column}, messages="m"))

    assert kind == "bad_prompt"
    assert what in text
    assert len(text) < 400


@pytest.mark.parametrize(
    ("value", "what"), [("{", "not JSON"), ("[1]", "expected a JSON object"), ("7", "JSON object")]
)
def test_params_that_are_no_object_are_a_problem(
    tmp_path: Path, value: str, what: str, one: Callable[..., Prompt]
) -> None:
    """The prompt may be fine, but it is not asked without its parameters."""
    assert what in problem(one(tmp_path, {"t": ["Hi"], "p": [value]}, prompt="t", params="p"))[1]


def test_text_that_is_not_utf8_is_a_problem_of_its_row(
    tmp_path: Path, put: Callable[..., list[InputFile]], read: Callable[..., list[Prompt]], bad_utf8: pa.Array
) -> None:
    """The row before it, in the same batch, is asked."""
    good, bad = read(put(tmp_path, {"t": bad_utf8}), "completions", prompt="t")

    assert good.messages == "a"
    assert "column 't' holds bytes that are not UTF-8" in problem(bad)[1]


def test_messages_that_are_not_utf8_are_a_problem_of_their_row(
    tmp_path: Path, put: Callable[..., list[InputFile]], read: Callable[..., list[Prompt]], bad_utf8: pa.Array
) -> None:
    """The same inside a list of structs."""
    structs = pa.StructArray.from_arrays([pa.array(["user"] * 2), bad_utf8], names=["role", "content"])
    good, bad = read(put(tmp_path, {"m": pa.ListArray.from_arrays([0, 1, 2], structs)}), messages="m")

    assert good.problem is None
    assert problem(bad)[0] == "bad_prompt"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_rendered_is_json_of_what_was_asked(text: str) -> None:
    """Text and messages both come back from JSON as they were."""
    assert json.loads(rendered(text)) == text
    assert json.loads(rendered([{"role": "user", "content": text}])) == [{"role": "user", "content": text}]
