"""Checks of a service's URL and API key before any call is made.

They are apart from `live` and `addresses`, whose libraries take half a second to load.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from logprob_store.errors import JobError


def check_url(base_url: str | None) -> None:
    """Refuse a URL with credentials, a query or a fragment: they are not sent together with a key, and would be logged.

    Raises:
        JobError: the URL has one of them.
    """
    parts = urlsplit(base_url or "")
    if parts.username is not None or parts.query or parts.fragment:
        held = "a user name or password" if parts.username is not None else "a query or fragment"
        raise JobError(
            f"model.base_url holds {held}, which cannot be sent along. Leave scheme, host and path in it, and give the "
            "key through the environment variable that model.api_key_env names."
        )


def check_key(api_key: str) -> None:
    """Refuse a key that no HTTP header can hold.

    Raises:
        JobError: the key has characters other than printable ASCII.
    """
    if not (api_key.isascii() and api_key.isprintable()):
        raise JobError(
            "the API key cannot be sent: it holds a line break or another character that no key has. "
            "Check the environment variable that the job's api_key_env names."
        )
