"""What all hostile tests hold the server to: after each it lives, is ready, small, and had no fault of its own."""

import base64
import importlib.util
import json
import socket
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest

# What a test may leave in the server's memory. An image at the limit of 50 megapixels takes 520 MiB while it is worked
# on (measured), which goes back to the system.
GROWTH_MIB = 300
_TRACES = ("Traceback", 'File "', "site-packages", "object at 0x")


@dataclass(frozen=True)
class RawAnswer:
    """What came back over a socket, up to its end."""

    status: int
    head: str
    body: bytes


class Wire:
    """Speaks bytes to the HTTP port, whatever they are."""

    def __init__(self, url: str) -> None:
        address = httpx.URL(url)
        self.host, self.port = address.host, int(address.port or 80)

    def connect(self, timeout_s: float = 20.0) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=timeout_s)

    def send(self, data: bytes, *, is_ended: bool = False, timeout_s: float = 20.0) -> RawAnswer:
        """Send bytes on a fresh connection and read one answer; status 0 when the server only closed it."""
        with closing(self.connect(timeout_s)) as connection:
            try:
                connection.sendall(data)
                if is_ended:
                    connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # refused before all was sent; the answer is what counts
            return read_answer(connection)

    def post(self, path: str, headers: dict[str, str], body: bytes = b"", **options: Any) -> RawAnswer:
        """Send a request whose headers are exactly these, beside Host."""
        lines = [
            f"POST {path} HTTP/1.1",
            f"Host: {self.host}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body, **options)


def read_answer(connection: socket.socket) -> RawAnswer:
    """Read one answer by its Content-Length."""
    data = b""
    try:
        while b"\r\n\r\n" not in data and (part := connection.recv(65536)):
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        sizes = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        while sizes and len(body) < int(sizes[0]) and (part := connection.recv(65536)):
            body += part
    except ConnectionResetError:
        head, body = data, b""
    status = int(head.split(b" ")[1]) if head.startswith(b"HTTP/") else 0
    return RawAnswer(status, head.decode("latin-1"), body)


def refused(answer: Any, *statuses: int) -> str:
    """Assert that an answer is a refusal with one of the statuses, in the one shape; return its message."""
    status = answer.status if isinstance(answer, RawAnswer) else answer.status_code
    body = answer.body if isinstance(answer, RawAnswer) else answer.content
    assert status in statuses, (status, body[:500])
    values = json.loads(body)
    assert set(values) == {"error", "request_id"}
    message = values["error"]
    assert isinstance(message, str)
    assert 5 < len(message) < 1000
    assert not any(word in message for word in _TRACES), message
    return message


def png(width: int, height: int, rows: bytes | None = None, *, is_whole: bool = True) -> bytes:
    """Return a grey PNG that says this size; its pixels are `rows`, or black and true to the size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = rows if rows is not None else bytes((width + 1) * height)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(pixels, 9))
        + (chunk(b"IEND", b"") if is_whole else b"")
    )


def b64(data: bytes) -> str:
    """Return base64 text."""
    return base64.b64encode(data).decode()


@pytest.fixture(scope="session")
def shared_server(bundle_arguments: list[str]) -> Iterator[Any]:
    """Return one server for all modules that need no settings of their own."""
    spec = importlib.util.spec_from_file_location("serving_fixtures", Path(__file__).parent.parent / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    running = module.launch(*bundle_arguments)
    assert running.process.poll() is None, "".join(running.log_lines)
    yield running
    assert running.stop() == 0
    running.process.stdout.close()
    running.process.stderr.close()


@pytest.fixture(scope="module")
def server(shared_server: Any) -> Any:
    return shared_server


@pytest.fixture
def hostile() -> SimpleNamespace:
    """Return what hostile requests are made of."""
    return SimpleNamespace(refused=refused, png=png, b64=b64, read_answer=read_answer, RawAnswer=RawAnswer)


@pytest.fixture(scope="module")
def wire(server: Any) -> Wire:
    return Wire(server.url)


@pytest.fixture(scope="module")
def settled_mib(server: Any, http: httpx.Client) -> float:
    """Return the server's memory after ordinary requests of each kind."""
    for name in ("boxes", "kinds"):
        for _ in range(5):
            http.post(f"/predict?model={name}", content=png(640, 480), headers={"content-type": "image/png"})
    return memory_mib(server)


def memory_mib(server: Any) -> float:
    return float(psutil.Process(server.process.pid).memory_info().rss) / 2**20


@pytest.fixture(autouse=True)
def unharmed(server: Any, http: httpx.Client, settled_mib: float) -> Iterator[None]:
    """After the test the process lives, is ready, answers right, is as small as before, and logged no fault."""
    seen = len(server.log_lines)
    yield
    assert server.process.poll() is None, "".join(server.log_lines[-20:])
    assert http.get("/v2/health/ready").status_code == 200
    good = http.post("/predict?model=boxes", content=png(64, 48), headers={"content-type": "image/png"})
    assert good.status_code == 200, good.text
    faults = [line for line in list(server.log_lines[seen:]) if '"level":"error"' in line.replace(" ", "")]
    assert not faults, faults[0][:3000]
    assert memory_mib(server) - settled_mib < GROWTH_MIB


@pytest.fixture
def stays_awake(http: httpx.Client) -> Callable[[], float]:
    """Return a function that measures how long a health check takes now, seconds."""

    def measure() -> float:
        start = time.perf_counter()
        assert http.get("/v2/health/live").status_code == 200
        return time.perf_counter() - start

    return measure


@pytest.fixture(scope="session")
def hostile_png() -> bytes:
    """Return a small picture."""
    return png(64, 48)
