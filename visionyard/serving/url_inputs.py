"""Images given as URL: off unless hosts are allowed, and never a way into the network behind the server (SSRF).

A name is resolved once, every address it has is checked, and the connection goes to an address that was checked, so an
answer of the name server that changes in between (DNS rebinding) reaches nothing. Certificates are still verified for
the name. Proxies of the environment are not used: behind one, the address would be the proxy's choice.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable
from functools import cached_property
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

import certifi
import httpcore

from visionyard.config.serving_config import UrlInputsConfig
from visionyard.errors import DeniedError, RequestError, TooLargeError

_MAX_REDIRECT_COUNT = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_URL_LENGTH = 2048
# Each may hold max_mib; more wait for their turn within their own time.
_FETCHES_AT_ONCE = 8
_HEADERS = [(b"User-Agent", b"visionyard"), (b"Accept", b"image/*"), (b"Accept-Encoding", b"identity")]
# Addresses that stand for others: what is inside must not be reached through them.
_CARRIERS = tuple(ipaddress.ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16"))

# UnicodeError: the name cannot be written as the name server wants it.
_FETCH_ERRORS = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError, UnicodeError)

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class UrlFetcher:
    """Fetches images from the hosts that are allowed."""

    def __init__(self, config: UrlInputsConfig) -> None:
        """Prepare; nothing is fetched, and no certificate read, before the first URL.

        Args:
            config: Hosts, size and time.
        """
        self._allowed = [entry.strip().lower().rstrip(".") for entry in config.allow]
        self._max_bytes = int(config.max_mib * 2**20)
        self._timeout_s = config.timeout_s
        self._turn = asyncio.Semaphore(_FETCHES_AT_ONCE)

    async def fetch(self, url: str) -> bytes:
        """Return what is at a URL; redirects are followed within the allowed hosts.

        Args:
            url: http or https.

        Raises:
            DeniedError: URLs are switched off, or the host or its address is not allowed.
            TooLargeError: It is larger than url_inputs.max_mib.
            RequestError: It is no such URL, or cannot be had in time.
        """
        self._check(url)
        try:
            async with asyncio.timeout(self._timeout_s), self._turn:
                return await self._follow(url)
        except TimeoutError:
            raise RequestError(
                f"{_shown(url)}: not there within {self._timeout_s:g} s; send the image itself"
            ) from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            raise RequestError(f"{_shown(url)}: cannot be fetched: {_reason(error)}; send the image itself") from None

    async def close(self) -> None:
        """Close what is open."""
        if "_pool" in self.__dict__:
            await self._pool.aclose()
            del self.__dict__["_pool"]

    @cached_property
    def _pool(self) -> httpcore.AsyncConnectionPool:
        # No connection is kept: a name is looked up and checked for every fetch.
        return httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(cafile=certifi.where()),
            max_connections=_FETCHES_AT_ONCE,
            max_keepalive_connections=0,
            network_backend=_CheckedNetwork(self._allowed),
        )

    async def _follow(self, url: str) -> bytes:
        for _ in range(_MAX_REDIRECT_COUNT + 1):
            parts = self._check(url)
            target = urlunsplit((parts.scheme, parts.netloc, parts.path or "/", parts.query, ""))
            async with self._pool.stream("GET", target, headers=[*_HEADERS, _host_header(parts)]) as response:
                if response.status == 200:
                    return await self._read(response, url)
                place = next((value for name, value in response.headers if name.lower() == b"location"), None)
                if response.status not in _REDIRECTS or place is None:
                    raise RequestError(f"{_shown(url)}: the server answered {response.status}; expected 200")
                url = urljoin(url, place.decode("latin-1"))
        raise RequestError(f"{_shown(url)}: more than {_MAX_REDIRECT_COUNT} redirects; give the last address")

    def _check(self, url: str) -> SplitResult:
        """Return the parts of a URL that may be asked for."""
        if not self._allowed:
            raise DeniedError(
                "images by URL are switched off here; send the image itself (the operator can set url_inputs.allow)"
            )
        if len(url) > _MAX_URL_LENGTH or not url.isascii() or any(ord(letter) <= 32 for letter in url):
            raise RequestError(f"{_shown(url)}: expected an escaped URL of at most {_MAX_URL_LENGTH} letters")
        try:
            parts = urlsplit(url)
            has_port = parts.port is None or parts.port > 0
        except ValueError as error:
            raise RequestError(f"{_shown(url)}: not a URL ({error})") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname or not has_port or "@" in parts.netloc:
            raise RequestError(f"{_shown(url)}: expected http(s)://host/path without user and password")
        if not _is_allowed(parts.hostname, self._allowed):
            raise DeniedError(f"{_shown(url)}: the host {parts.hostname} is not among url_inputs.allow; send the image")
        return parts

    async def _read(self, response: httpcore.Response, url: str) -> bytes:
        data = bytearray()
        async for chunk in response.aiter_stream():
            data += chunk
            if len(data) > self._max_bytes:
                raise TooLargeError(f"{_shown(url)}: larger than {self._max_bytes / 2**20:g} MiB; scale it down first")
        return bytes(data)


class _CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects only to addresses that may be reached."""

    def __init__(self, allowed: list[str]) -> None:
        self._allowed = allowed
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
        if not _literal(host):
            # One forbidden address is enough: which one is taken must not be up to chance.
            for address in addresses:
                if not is_public(address):
                    raise DeniedError(f"the host {host} has the address {address}, which is not public; send the image")
        elif not is_public(addresses[0]) and not _is_listed_address(host, self._allowed):
            raise DeniedError(f"the address {host} is not among url_inputs.allow; send the image itself")
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore.ConnectError as error:
                failure = error
        raise failure or httpcore.ConnectError(f"{host} has no address")


def is_public(text: str) -> bool:
    """Return whether an IP address is one of the public internet: no private, loopback, link-local ... one.

    Args:
        text: IPv4 or IPv6, also one mapped or carried inside the other.
    """
    address: _Address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif any(address in network for network in _CARRIERS):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved and not address.is_unspecified


def _is_allowed(host: str, allowed: list[str]) -> bool:
    name = host.lower().rstrip(".")
    if _literal(name):
        return _is_listed_address(name, allowed)
    return any(name.endswith(entry[1:]) if entry.startswith("*.") else name == entry for entry in allowed)


def _is_listed_address(host: str, allowed: list[str]) -> bool:
    address = _literal(host)
    return any(_literal(entry) == address for entry in allowed if _literal(entry))


def _literal(host: str) -> _Address | None:
    """Return the address that a host is written as, None when it is a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _host_header(parts: SplitResult) -> tuple[bytes, bytes]:
    return b"Host", parts.netloc.encode("ascii")


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "the name is not known"
    return str(error) or type(error).__name__


def _shown(url: str) -> str:
    """Return a URL fit for a message: without query and fragment, which may hold secrets, and not long."""
    text = url.partition("#")[0].partition("?")[0]
    if "@" in text:
        text = f"{text.partition('//')[0]}//...@{text.rpartition('@')[2]}"
    return ascii(text if len(text) <= 120 else text[:117] + "...")[1:-1]
