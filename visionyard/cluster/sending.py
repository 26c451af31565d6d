"""Sending something small over HTTP, again where that may help."""

import os
from collections.abc import Mapping

import certifi
import urllib3

from visionyard.storage.base import is_transient_connection_fault, with_retries

READ_TIMEOUT_S = 10.0
_TIMEOUT = urllib3.Timeout(connect=5.0, read=READ_TIMEOUT_S)


class RefusedError(Exception):
    """A server answered, and not with success."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"it answered with status {status}")


def authorities() -> str:
    """Return the file of the certificate authorities that are trusted."""
    return os.environ.get("SSL_CERT_FILE") or certifi.where()


def send(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Send a body, up to five times.

    Args:
        method: One that may be sent twice.
        url: Where to. Redirects are not followed: they would carry a token elsewhere.
        body: What.
        headers: Sent with it.

    Raises:
        RefusedError: The server answered with another status than a success.
        urllib3.exceptions.HTTPError: It did not answer.
    """
    pool = urllib3.PoolManager(timeout=_TIMEOUT, retries=False, cert_reqs="CERT_REQUIRED", ca_certs=authorities())

    def send_once() -> None:
        answer = pool.request(method, url, body=body, headers=headers)
        if answer.status >= 300:
            raise RefusedError(answer.status)

    with_retries(send_once, _is_transient)


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, RefusedError):
        return error.status >= 500 or error.status == 429
    return is_transient_connection_fault(error)
