"""The models that a server lists, without a job."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from logprob_store.errors import CallError, InputError
from logprob_store.request import OPENAI_BASE_URL
from logprob_store.transport.model_list import list_models

if TYPE_CHECKING:
    from datetime import date

_PATIENCE_S: Final = 60.0


def listed_models(*, base_url: str | None, api_key: str) -> dict[str, date | None]:
    """The names that a server lists, each with the day of its shutdown if the server says one.

    Args:
        base_url: of the server; None is OpenAI's.
        api_key: for it.

    Raises:
        InputError: the server cannot be reached or refuses to list its models, or its answer is no list.
    """
    try:
        listed = asyncio.run(list_models(base_url=base_url, api_key=api_key, timeout_s=_PATIENCE_S))
    except CallError as error:
        raise InputError(
            f"the server at {base_url or OPENAI_BASE_URL} cannot be asked for its models: {error}"
        ) from error
    if listed.names is None:
        why = f"its answer is no list (HTTP {listed.status})" if listed.refusal is None else str(listed.refusal)
        raise InputError(f"the server at {base_url or OPENAI_BASE_URL} lists no models: {why}")
    return {name: listed.shutdowns.get(name) for name in listed.names}
