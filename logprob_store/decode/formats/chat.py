"""The chat shape: `{content: [E] | null, refusal: [E] | null}` with `E = {token, logprob, bytes, top_logprobs}`.

DeepSeek's `reasoning_content` beside these, llama.cpp's `id` or Fireworks' `token_id` in a token, and missing keys are
part of the shape. Here a value is read token by token; `bulk.regular_chat` reads the regular ones.

A template looks like `{"shape": "chat", "content": "list", "refusal": "null", "token": ["bytes", "logprob", "token",
"top_logprobs"], "alternative": ["bytes", "logprob", "token"]}`: the keys of the object, of its tokens and of their
alternatives. `"top_logprobs": "null"` says that it is null in all tokens. `"extra": {"text_offset": [0, 2]}` holds keys
without a column (Fireworks' `text_offset` and `sampling_logprob`) that all tokens have: a value for each token of
content, refusal, reasoning, in this order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.body import expect_list, expect_object
from logprob_store.decode.token_rows import NO_ID, Token, make_token

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from logprob_store.decode.formats.base import ChoiceContext, TemplateAndTokens

NAME: Final = "chat"
ORDERED: Final = False

SECTION_OF: Final = {"content": "content", "refusal": "refusal", "reasoning_content": "reasoning"}
ALTERNATIVE_KEYS: Final = ("bytes", "id", "logprob", "token", "token_id")
TOKEN_KEYS: Final = (*ALTERNATIVE_KEYS, "top_logprobs")


def recognises_logprobs(value: Mapping[str, Any]) -> bool:
    """Whether a `logprobs` object is of this shape."""
    return any(key in value for key in SECTION_OF) and not isinstance(value.get("tokens"), list)


def read_tokens(value: Mapping[str, Any], context: ChoiceContext) -> TemplateAndTokens:
    """The template and the tokens of each section."""
    tokens: dict[str, Sequence[Token]] = {}
    kinds: dict[str, str] = {}
    all_items: list[Mapping[str, Any]] = []
    for key, section in SECTION_OF.items():
        if key not in value:
            continue
        items = value[key]
        kinds[key] = "null" if items is None else "list"
        if items is not None:
            listed = expect_list(items, f"{context.path}.{key}")
            tokens[section] = [_read_token(item, context.path_of_token(key, n)) for n, item in enumerate(listed)]
            all_items.extend(items)
    return _template(kinds, all_items), tokens


def make_template(
    kinds: Mapping[str, str],
    token_keys: Iterable[str] | None,
    alternative_keys: Iterable[str] | None,
    *,
    null_top: bool = False,
) -> dict[str, Any]:
    """The template. The compiled scanner uses it too, so that both write the same text for the same keys.

    Args:
        kinds: "list" or "null" for each section's key that is there.
        token_keys: the keys of a token; None without tokens.
        alternative_keys: the keys of an alternative; None without alternatives.
        null_top: whether `top_logprobs` is null in all tokens.
    """
    template: dict[str, Any] = {"shape": NAME, **{key: kinds[key] for key in SECTION_OF if key in kinds}}
    if token_keys is not None:
        template["token"] = [key for key in TOKEN_KEYS if key in token_keys]
    if alternative_keys is not None:
        template["alternative"] = [key for key in ALTERNATIVE_KEYS if key in alternative_keys]
    if null_top:
        template["top_logprobs"] = "null"
    return template


def _template(kinds: Mapping[str, str], items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The template of a value whose tokens, of all sections, are `items`."""
    first_alternative = next((item["top_logprobs"][0] for item in items if item.get("top_logprobs")), None)
    null_top = bool(items) and all(item.get("top_logprobs", ()) is None for item in items)
    template = make_template(kinds, items[0] if items else None, first_alternative, null_top=null_top)
    keys = [key for key in items[0] if key not in TOKEN_KEYS] if items else []
    scalar_keys = (key for key in keys if all(_is_scalar(item.get(key, ())) for item in items))
    extra = {key: [item[key] for item in items] for key in scalar_keys}
    return {**template, "extra": extra} if extra else template


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))


def _read_token(item: Any, path: str) -> Token:
    token = expect_object(item, path)
    others = token.get("top_logprobs")
    if others is None:
        return _make_token(token, path)
    top = f"{path}.top_logprobs"
    listed = [
        _make_token(expect_object(other, place := f"{top}[{n}]"), place)
        for n, other in enumerate(expect_list(others, top))
    ]
    return _make_token(token, path, listed)


def _make_token(fields: Mapping[str, Any], path: str, alternatives: Sequence[Token] = ()) -> Token:
    return make_token(
        fields.get("token"),
        f"{path}.token",
        logprob=fields.get("logprob"),
        byte_values=fields.get("bytes"),
        token_id=fields.get("id", fields.get("token_id", NO_ID)),
        alternatives=alternatives,
    )


def rebuild(template: Mapping[str, Any], tokens: Mapping[str, Sequence[Token]]) -> dict[str, Any]:
    """The wire's value, as far as template and tokens determine it."""
    rebuilt: dict[str, Any] = {}
    all_items: list[dict[str, Any]] = []
    for key, section in SECTION_OF.items():
        kind = template.get(key)
        if kind == "list":
            rebuilt[key] = [_rebuild_token(token, template) for token in tokens.get(section, ())]
            all_items.extend(rebuilt[key])
        elif kind == "null":
            rebuilt[key] = None
    for key, column in template.get("extra", {}).items():
        for item, value in zip(all_items, column, strict=True):
            item[key] = value
    return rebuilt


def _rebuild_token(token: Token, template: Mapping[str, Any]) -> dict[str, Any]:
    rebuilt = _rebuild_one(token, template["token"])
    if "top_logprobs" in template["token"]:
        others = [_rebuild_one(other, template["alternative"]) for other in token.alternatives]
        rebuilt["top_logprobs"] = None if template.get("top_logprobs") == "null" else others
    return rebuilt


def _rebuild_one(token: Token, keys: Sequence[str]) -> dict[str, Any]:
    values = {
        "token": token.text,
        "logprob": token.logprob,
        "bytes": None if token.bytes is None else list(token.bytes),
        "id": token.token_id,
        "token_id": token.token_id,
    }
    return {key: values[key] for key in keys if key in values}
