"""The list of readers. `base` says how to add one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from logprob_store.importing.readers import (
    bedrock_batch,
    gemini_batch,
    har,
    inspect_log,
    langchain_message,
    litellm_payload,
    lm_eval_sample,
    logged_answer,
    openai_batch,
    pair,
    stored_completions,
    vcr_cassette,
    yaml_file,
    zip_archive,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from logprob_store.importing.readers.base import FileReader, ObjectReader

READERS: Final[tuple[ObjectReader, ...]] = (
    vcr_cassette,
    har,
    pair,
    openai_batch,
    gemini_batch,
    bedrock_batch,
    inspect_log,
    langchain_message,
    litellm_payload,
    lm_eval_sample,
    stored_completions,
    logged_answer,
)
"""The readers of objects. Of several that recognise an object, the first one reads it."""

FILE_READERS: Final[tuple[FileReader, ...]] = (yaml_file, zip_archive)
"""The readers of files that are not JSON."""

_OPENINGS: Final = tuple(reader.OPENING for reader in READERS if hasattr(reader, "OPENING"))
_LONGEST_OPENING: Final = 1 << 12


def begins_container(text: str, position: int) -> bool:
    """Whether an object that holds many records begins at a position, so that a tear in it costs one of them alone."""
    return any(opening.match(text, position, position + _LONGEST_OPENING) for opening in _OPENINGS)


def is_record_of_container(held: Mapping[str, Any]) -> bool:
    """Whether an object with these keys may be one of the records in such an object."""
    return "choices" in held or any(reader.recognises(held) for reader in READERS)
