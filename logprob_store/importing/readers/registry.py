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
    openai_batch,
    pair,
    stored_completions,
    vcr_cassette,
    yaml_file,
    zip_archive,
)

if TYPE_CHECKING:
    from logprob_store.importing.readers.base import FileReader, ObjectReader

READERS: Final[tuple[ObjectReader, ...]] = (
    pair,
    openai_batch,
    gemini_batch,
    bedrock_batch,
    vcr_cassette,
    har,
    inspect_log,
    langchain_message,
    litellm_payload,
    lm_eval_sample,
    stored_completions,
)
"""The readers of objects. Of several that recognise an object, the first one reads it."""

FILE_READERS: Final[tuple[FileReader, ...]] = (yaml_file, zip_archive)
"""The readers of files that are not JSON."""
