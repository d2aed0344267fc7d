"""The chat shape: `{content: [E] | null, refusal: [E] | null}` with `E = {token, logprob, bytes, top_logprobs}`.

DeepSeek's `reasoning_content` beside these, llama.cpp's `id` or Fireworks' `token_id` in a token, and missing keys are
part of the shape. Here a value is read token by token; `bulk.regular_chat` reads the regular ones.

Servers deviate, and an odd item costs itself alone. A token may be named by its `id`, by a number under `token`, or by
a text under `bytes`. An item that is no object becomes a row of nulls. `top_logprobs` may be one object, or an object
of texts to numbers. The patch has what the wire said.

A template looks like `{"shape": "chat", "content": "list", "refusal": "null", "token": ["bytes", "logprob", "token",
"top_logprobs"], "alternative": ["bytes", "logprob", "token"]}`: the keys of the object, of its tokens and of their
alternatives. `"top_logprobs": "null"` says that it is null in all tokens. `"extra": {"text_offset": [0, 2]}` holds keys
without a column (Fireworks' `text_offset` and `sampling_logprob`) that all tokens have: a value for each token of
content, refusal, reasoning, in this order.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.token_rows import NO_ID, Token, make_token

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from logprob_store.decode.formats.base import ChoiceContext, TemplateAndTokens

NAME: Final = "chat"
ORDERED: Final = False

SECTION_OF: Final = {"content": "content", "refusal": "refusal", "reasoning_content": "reasoning"}
ALTERNATIVE_KEYS: Final = ("bytes", "id", "logprob", "token", "token_id")
TOKEN_KEYS: Final = (*ALTERNATIVE_KEYS, "top_logprobs")


def recognises_logprobs(value: Mapping[str, Any]) -> bool:
    """Whether a `logprobs` object is of this shape."""
    is_legacy = isinstance(value.get("tokens"), list) or isinstance(value.get("token_logprobs"), list)
    return any(key in value for key in SECTION_OF) and not is_legacy


def read_tokens(value: Mapping[str, Any], _: ChoiceContext, /) -> TemplateAndTokens:
    """The template and the tokens of each section."""
    tokens: dict[str, Sequence[Token]] = {}
    kinds: dict[str, str] = {}
    all_items: list[Any] = []
    for key, section in SECTION_OF.items():
        if key not in value:
            continue
        held = value[key]
        items = [held] if isinstance(held, dict) and "logprob" in held else held
        kinds[key] = "list" if isinstance(items, list) else "null"
        if isinstance(items, list):
            tokens[section] = [_read_token(item) for item in items]
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


def _template(kinds: Mapping[str, str], items: Sequence[Any]) -> dict[str, Any]:
    """The template of a value whose tokens, of all sections, are `items`."""
    objects = [item for item in items if isinstance(item, dict)]
    token_keys = _usual_keys(objects)
    listed = (one for item in objects for one in _listed_alternatives(item))
    first_alternative = next((one for one in listed if isinstance(one, dict) and one), None)
    null_top = bool(objects) and all(item.get("top_logprobs", ()) is None for item in objects)
    template = make_template(kinds, token_keys, first_alternative, null_top=null_top)
    extra_keys = [key for key in token_keys or () if key not in TOKEN_KEYS] if len(objects) == len(items) else []
    scalar_keys = (key for key in extra_keys if all(_is_scalar(item.get(key, ())) for item in items))
    extra = {key: [item[key] for item in items] for key in scalar_keys}
    return {**template, "extra": extra} if extra else template


def _usual_keys(objects: Sequence[Mapping[str, Any]]) -> Sequence[str] | None:
    """The keys that most objects have; None without objects."""
    if not objects:
        return None
    usual: Collection[str] = objects[0].keys()
    if not all(item.keys() == usual for item in objects):
        usual = Counter(map(frozenset, objects)).most_common(1)[0][0]
    return next(list(item) for item in objects if item.keys() == usual)


def _listed_alternatives(item: Mapping[str, Any]) -> Sequence[Any]:
    """The alternatives of a token as objects, however the wire writes them."""
    held = item.get("top_logprobs")
    if isinstance(held, list):
        return held
    if not isinstance(held, dict):
        return ()
    if all(_is_number(value) for value in held.values()):
        return [{"token": text, "logprob": number} for text, number in held.items()]
    return [held] if "logprob" in held else ()


def _is_number(value: Any) -> bool:
    return value is None or type(value) in (int, float)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))


def _read_token(item: Any) -> Token:
    if not isinstance(item, dict):
        return Token(None)
    return make_chat_token(item, [make_chat_token(other) for other in _listed_alternatives(item)])


def make_chat_token(item: Any, alternatives: Sequence[Token] = ()) -> Token:
    """The token of an object `{token, logprob, bytes, id}`; nulls for a value that is none.

    A number under `token` is the token's id, and a text under `bytes` is then its text.
    """
    if not isinstance(item, dict):
        return Token(None)
    text, spelled = item.get("token"), item.get("bytes")
    token_id = item.get("id", item.get("token_id", NO_ID))
    if not isinstance(text, str):
        token_id = text if token_id is NO_ID else token_id
        text = spelled if isinstance(spelled, str) else None
    return make_token(
        text,
        logprob=item.get("logprob"),
        byte_values=spelled,
        token_id=token_id,
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
    keys = template.get("token", ())
    rebuilt = _rebuild_one(token, keys)
    if "top_logprobs" in keys:
        others = [_rebuild_one(other, template.get("alternative", ())) for other in token.alternatives]
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
