"""What services of the Batch API differ in: limits, endpoints, spellings; and those whose batches are another API.

Sources: OpenAI's batch guide and `openai` 3.54; Microsoft's batch pages; Groq's guide and `groq` 1.7; `together` 3.1.1,
whose uploads are another API; vLLM's `run-batch`. All looked at on 2026-11-26.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from logprob_store.request import PATHS

_MB: Final = 1_000_000
_ROOM: Final = 0.95
"""The part of a service's limit of bytes that a file may fill."""


@dataclass(frozen=True, slots=True)
class BatchService:
    """A service of the Batch API.

    Args:
        name: as the job file names it.
        hosts: ends of its host names.
        max_lines: the most lines of an input file.
        max_mb: the most megabytes of an input file.
        endpoints: the endpoints that batches may ask.
        checks_files: whether a new file is looked at before a batch of it may begin.
        is_folder: whether files in a folder are read and written in its place.
    """

    name: str
    hosts: tuple[str, ...] = ()
    max_lines: int = 50_000
    max_mb: int = 200
    endpoints: tuple[str, ...] = ("chat", "completions", "responses")
    checks_files: bool = False
    is_folder: bool = False

    @property
    def max_bytes(self) -> int:
        """The most bytes that an input file gets: its limit with 5 % of room."""
        return int(self.max_mb * _MB * _ROOM)

    def url(self, endpoint: str) -> str:
        """The path that a batch asks."""
        return f"/v1{PATHS[endpoint]}"

    def check_endpoint(self, endpoint: str) -> None:
        """See that batches may ask an endpoint.

        Raises:
            ValueError: they may not.
        """
        if endpoint not in self.endpoints:
            raise ValueError(
                f'model.endpoint = "{endpoint}" cannot be asked in batches at {self.name}: it takes '
                f'{", ".join(self.endpoints)}. Use transport.kind = "live"'
            )


OPENAI: Final = BatchService("openai", ("api.openai.com",))
AZURE: Final = BatchService(
    "azure", ("openai.azure.com",), max_lines=100_000, endpoints=("chat", "responses"), checks_files=True
)
_KNOWN: Final = (
    OPENAI,
    AZURE,
    BatchService("groq", ("api.groq.com",), endpoints=("chat",)),
    BatchService("vllm", endpoints=("chat",), is_folder=True),
)
SERVICES: Final = {service.name: service for service in _KNOWN}
"""The services by name."""

_TOGETHER: Final = "Together takes files by signed addresses of a store, with a checksum, and not in the request"
_OTHER_APIS: Final = {
    "api.together.xyz": _TOGETHER,
    "api.together.ai": _TOGETHER,
    "openrouter.ai": "OpenRouter takes requests in the body of a batch and has no files",
    "api.mistral.ai": "Mistral has batch jobs of its own",
    "api.fireworks.ai": "Fireworks has batch jobs of its own",
    "api.x.ai": "xAI has batches of its own",
    "generativelanguage.googleapis.com": "Gemini takes the files of batches by another API",
    "api.deepseek.com": "DeepSeek has no batches",
    "api.anthropic.com": "Anthropic has batches of its own",
}
"""Hosts where batches are another API than OpenAI's, and why."""


def service_of(name: str | None, base_url: str | None, *, azure: bool = False) -> BatchService:
    """The service of a job: the one that it names, the one at its address, or one like OpenAI's.

    Raises:
        ValueError: the service at that address has another API for batches.

    >>> service_of(None, "https://api.groq.com/openai/v1").name, service_of(None, "http://127.0.0.1:8000/v1").name
    ('groq', 'openai')
    """
    if name is not None:
        return SERVICES[name]
    if azure:
        return AZURE
    host = urlsplit(base_url or "").hostname or ""
    if (why := next((why for end, why in _OTHER_APIS.items() if _is_at(host, end)), None)) is not None:
        raise ValueError(
            f'{why}, which transport.kind = "batch" does not speak: use transport.kind = "live". For a gateway there '
            f'that speaks OpenAI\'s Batch API, name the service it is like: batch.service = "openai"'
        )
    return next((one for one in _KNOWN if any(_is_at(host, end) for end in one.hosts)), OPENAI)


def _is_at(host: str, end: str) -> bool:
    return host == end or host.endswith(f".{end}")
