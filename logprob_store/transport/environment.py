"""What HTTP libraries take from this machine's environment: proxies, certificates, and the SDK's server and key.

All but the key is checked before any call.

Loads no HTTP library, which takes half a second. The only module outside the command line that reads `os.environ`:
the libraries read the same variables, at a time when an error would be a traceback.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import ssl
import urllib.request
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from logprob_store.errors import JobError
from logprob_store.request import OPENAI_BASE_URL, problem_of_host

SOCKS_SCHEMES: Final = frozenset({"socks", "socks4", "socks4a", "socks5", "socks5h"})
_HTTP_SCHEMES: Final = frozenset({"http", "https"})
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def check_environment(base_url: str | None) -> None:
    """Refuse settings of the environment that the HTTP client could not use for a URL.

    Raises:
        JobError: a proxy that applies to the URL, a file of certificates or a key log; the message names the variable.
    """
    url = base_url or OPENAI_BASE_URL
    proxy_of(url)
    _check_key_log()
    if url.lower().startswith("https"):
        _check_certificates()


def server_of_environment() -> tuple[str | None, str | None]:
    """The server that the SDK asks by its variables OPENAI_BASE_URL and OPENAI_API_KEY, and the key for it.

    Raises:
        JobError: it is no address.
    """
    url = os.environ.get("OPENAI_BASE_URL", "").strip() or None
    if url is not None and (urlsplit(url).scheme.lower() not in _HTTP_SCHEMES or problem_of_host(url) is not None):
        raise JobError(
            "OPENAI_BASE_URL in the environment is no address of a server, such as http://127.0.0.1:8080/v1: correct "
            "it, or unset it"
        )
    return url, os.environ.get("OPENAI_API_KEY") or None


def proxy_of(url: str) -> str | None:
    """The proxy for a URL by this machine's settings, with its scheme; None where NO_PROXY excepts the host.

    Raises:
        JobError: it is no URL of a proxy, or a SOCKS proxy without the extra that it needs.
    """
    scheme = urlsplit(url).scheme.lower()
    proxies = urllib.request.getproxies()
    variable = next((name for name in (scheme, "all") if proxies.get(name)), None)
    if variable is None or _is_excepted(url, proxies.get("no", "")):
        return None
    if not urllib.request.getproxies_environment() and urllib.request.proxy_bypass(urlsplit(url).hostname or ""):
        return None  # macOS and Windows have settings of their own
    proxy = proxies[variable]
    return _checked_proxy(proxy if "://" in proxy else f"http://{proxy}", f"{variable.upper()}_PROXY")


def _checked_proxy(proxy: str, variable: str) -> str:
    if problem_of_host(proxy) is not None or not proxy.isprintable() or " " in proxy:
        raise JobError(f"{variable} in the environment is no URL of a proxy: correct it, or unset it")
    parts = urlsplit(proxy)
    scheme, shown = parts.scheme.lower(), f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if scheme not in _HTTP_SCHEMES | SOCKS_SCHEMES:
        raise JobError(
            f"{variable} in the environment is {shown}, and proxies are spoken to over http, https or SOCKS: correct "
            "it, unset it, or except the server with NO_PROXY"
        )
    if scheme in SOCKS_SCHEMES and importlib.util.find_spec("aiohttp_socks") is None:
        raise JobError(
            f"{variable} in the environment is {shown}, and a SOCKS proxy needs an extra: "
            "pip install 'logprob-store[socks]'. Or except the server with NO_PROXY, or unset the variable"
        )
    return proxy


def _is_excepted(url: str, no_proxy: str) -> bool:
    """Whether an entry of NO_PROXY fits the URL: `*`, a host, a domain, an address, a network, each maybe with a port.

    >>> _is_excepted("http://a.example.org/v1", ".example.org"), _is_excepted("http://[::1]/v1", "[::1]:8080")
    (True, False)
    """
    return any(_fits(url, entry) for entry in no_proxy.lower().replace(",", " ").split())


def _fits(url: str, entry: str) -> bool:
    parts = urlsplit(url.lower())
    host, scheme = parts.hostname or "", parts.scheme
    wanted_scheme, divided, rest = entry.rpartition("://")
    if entry == "*":
        return True
    if divided and wanted_scheme not in {scheme, "all"}:
        return False
    try:
        address = ipaddress.ip_address(host)
        network = ipaddress.ip_network(rest.strip("[]"), strict=False)
    except ValueError:
        pass
    else:
        return address in network
    try:
        wanted = urlsplit(f"//{rest}")
        name, port = (wanted.hostname or "").removeprefix("*").removeprefix("."), wanted.port
    except ValueError:
        return False
    if port is not None and port != (parts.port or _DEFAULT_PORTS.get(scheme)):
        return False
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _check_key_log() -> None:
    """Python opens the key log when it makes any TLS context, which HTTP libraries do as they are loaded."""
    path = os.environ.get("SSLKEYLOGFILE")
    if path:
        try:
            with Path(path).open("ab"):
                pass
        except OSError as error:
            raise _unusable("SSLKEYLOGFILE", path, error) from error


def _check_certificates() -> None:
    """The file is preferred over the folder, as by the SDK's client, which reads no other variables."""
    file, folders = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
        except OSError as error:
            raise _unusable("SSL_CERT_FILE", file, error) from error
    elif folders and not any(Path(folder).is_dir() for folder in folders.split(os.pathsep)):
        raise _unusable("SSL_CERT_DIR", folders, NotADirectoryError(0, "no such folder"))


def _unusable(variable: str, value: str, error: OSError) -> JobError:
    if isinstance(error, ssl.SSLError):
        why = "holds no certificates in PEM form"
    else:
        why = f"cannot be used: {error.strerror or error}"
    return JobError(f"{variable} in the environment is {value}, which {why}. Correct it, or unset it")
