"""Checks of a service's URL and API key before any call is made.

They are apart from `live` and `addresses`, whose libraries take half a second to load.
"""

from __future__ import annotations

import ipaddress
import logging
from urllib.parse import urlsplit

from logprob_store.errors import JobError
from logprob_store.transport.redaction import is_secret

log = logging.getLogger(__name__)


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


def warn_of_plain_http(base_url: str | None, *secrets: str) -> None:
    """Log a warning if a key or a header goes over the network as it is, for everybody on the way to read."""
    parts = urlsplit(base_url or "")
    if parts.scheme.lower() == "http" and not _is_this_machine(parts.hostname or "") and any(map(is_secret, secrets)):
        log.warning(
            "the key goes to %s over plain http, so that everybody on the way can read it and the prompts: "
            "write https in model.base_url",
            parts.hostname,
        )


def _is_this_machine(host: str) -> bool:
    """Whether a host is loopback, so that nothing leaves this machine.

    >>> [_is_this_machine(host) for host in ("localhost", "api.localhost", "127.0.0.9", "::1", "10.0.0.1", "gpu")]
    [True, True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
