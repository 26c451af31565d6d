"""Where a server listens, and how it is told to stop."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from visionyard.config.serving_config import ServingConfig
from visionyard.errors import ConfigError
from visionyard.serving.engine import ServedModel

# Connections that wait for the event loop to accept them.
BACKLOG = 2048


@dataclass(frozen=True)
class Listening:
    """Where a server listens.

    Attributes:
        url: Of REST, with the path prefix left out: a proxy strips it.
        grpc_address: host:port; empty where gRPC is off.
        models: Those that are ready; empty until all are.
    """

    url: str
    grpc_address: str
    models: list[ServedModel] = field(default_factory=list)


Announce = Callable[[Listening], None]


class Stop:
    """Tells a server to stop: asked once it finishes what it has, asked again it does not wait for that.

    Attributes:
        asked: Set by the first signal.
        hurried: Set by the second.
    """

    def __init__(self) -> None:
        """Begin unasked."""
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()

    def ask(self) -> None:
        """Take a signal."""
        (self.hurried if self.asked.is_set() else self.asked).set()


def bind(config: ServingConfig) -> socket.socket:
    """Take the port of REST.

    Raises:
        ConfigError: The host is none of this machine, or something else has the port.
    """
    host, port = config.server.host, config.server.http_port
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
    except OSError as error:
        raise ConfigError(
            f"server.host = {host!r}: {error.strerror or error}; give an address of this machine"
        ) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"server.http_port = {port}: {host}:{port} cannot be listened on: {error.strerror or error}; give another "
            "port, or 0 for any free one"
        ) from None
    return listener


def place_of(config: ServingConfig, listener: socket.socket, grpc_port: int) -> Listening:
    """Return where a server listens, with the ports that it was given."""
    host = config.server.host
    shown = f"[{host}]" if ":" in host else host
    scheme = "https" if config.tls.cert_file else "http"
    port = listener.getsockname()[1]
    return Listening(f"{scheme}://{shown}:{port}", f"{shown}:{grpc_port}" if grpc_port >= 0 else "")
