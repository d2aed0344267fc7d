"""Which services take which batches."""

from __future__ import annotations

import pytest

from logprob_store.batch.services import SERVICES, service_of


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (None, "openai"),
        ("https://api.openai.com/v1", "openai"),
        ("https://eu.api.openai.com/v1", "openai"),
        ("https://mine.openai.azure.com", "azure"),
        ("https://api.groq.com/openai/v1", "groq"),
        ("http://127.0.0.1:4000/v1", "openai"),
        ("https://notapi.openai.com.example.org/v1", "openai"),
    ],
)
def test_a_service_is_found_by_its_host(url: str | None, name: str) -> None:
    """A host that nobody knows is asked as OpenAI is."""
    assert service_of(None, url).name == name


@pytest.mark.parametrize(
    "host", ["openrouter.ai", "api.mistral.ai", "api.x.ai", "api.fireworks.ai", "api.together.xyz"]
)
def test_another_api_is_an_error_before_anything_is_sent(host: str) -> None:
    """It says why, and what to write for a gateway there."""
    with pytest.raises(ValueError, match=r"live.*batch\.service"):
        service_of(None, f"https://{host}/v1")
    assert service_of("openai", f"https://{host}/v1").name == "openai"


@pytest.mark.parametrize(
    ("service", "endpoint"), [("groq", "responses"), ("azure", "completions"), ("openai", "decisions")]
)
def test_an_endpoint_that_batches_do_not_ask_is_an_error(service: str, endpoint: str) -> None:
    """It names those that they do."""
    with pytest.raises(ValueError, match="it takes chat"):
        SERVICES[service].check_endpoint(endpoint)


def test_a_file_keeps_room() -> None:
    """5 % below the limit of bytes: services count otherwise."""
    assert SERVICES["openai"].max_bytes == 190_000_000
