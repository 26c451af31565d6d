"""Hostile requests for as long as you like: ten thousand connections, slow clients, altered requests.

    python benchmarks/hostile.py BUNDLE [--seconds 60] [--connections 10000]

Starts `visionyard serve BUNDLE` on free ports and attacks it in turn over REST and gRPC. Meanwhile a health check is
asked every 50 ms: the slowest one is in the table, as are answers by kind and the server's memory. Ends with 1 when the
server died, was not ready afterwards, answered 5xx of its own fault or with a trace. The tests in tests/serving/hostile
are the short form; this one also finds what takes many tries. Opening ten thousand connections needs as many files in
both processes (`ulimit -n 25000`); fewer are opened where that is not allowed, and the table says how many.
"""

import argparse
import base64
import contextlib
import io
import json
import random
import re
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
import numpy as np
import psutil
from PIL import Image

THREADS = 8
GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"


@dataclass
class Server:
    """The server under attack.

    Attributes:
        process: Of `visionyard serve`.
        url: REST.
        grpc: host:port.
        model: The name it serves.
    """

    process: "subprocess.Popen[str]"
    url: str
    grpc: str
    model: str = ""

    @property
    def memory_mib(self) -> float:
        """Resident memory."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 2**20

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of REST."""
        parts = httpx.URL(self.url)
        return parts.host, int(parts.port or 80)


@dataclass
class Outcome:
    """What an attack came to.

    Attributes:
        answers: Count by status, or by what happened instead.
        faults: Answers that should not be, the first ones.
        slowest_health_s: Of the checks meanwhile.
    """

    answers: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_health_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, status: str, text: str = "", *, is_fault: bool = False) -> None:
        """Count an answer."""
        with self.lock:
            self.answers[status] += 1
            if (is_fault or "Traceback" in text) and len(self.faults) < 5:
                self.faults.append(f"{status}: {text[:300]}")


@contextlib.contextmanager
def serving(bundle: Path, connections: int) -> Iterator[Server]:
    """Start a server and stop it at the end."""
    command = [sys.executable, "-m", "visionyard", "serve", str(bundle), "--http-port", "0", "--grpc-port", "0"]
    settings = [f"limits.max_connections={connections + 100}", "limits.body_timeout_s=3"]
    with subprocess.Popen(
        [*command, *(part for each in settings for part in ("--set", each))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        server = Server(process, "", "")
        for line in process.stdout or ():
            if found := re.match(r"listening on (\S+?), gRPC on (\S+);", line):
                server.url, server.grpc = found[1], found[2]
            if line.startswith("ready"):
                break
        else:
            raise SystemExit("the server did not start")
        server.model = httpx.get(f"{server.url}/models").json()["models"][0]["name"]
        try:
            yield server
        finally:
            process.terminate()
            process.wait(60)


@contextlib.contextmanager
def watched(server: Server, outcome: Outcome) -> Iterator[None]:
    """Ask for health meanwhile and keep the slowest answer."""
    stop = threading.Event()

    def watch() -> None:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            while not stop.wait(0.05):
                start = time.perf_counter()
                try:
                    status = client.get("/v2/health/live").status_code
                except httpx.HTTPError as error:
                    outcome.note("health", repr(error), is_fault=True)
                    continue
                outcome.slowest_health_s = max(outcome.slowest_health_s, time.perf_counter() - start)
                if status != 200:
                    outcome.note("health", str(status), is_fault=True)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def crowd(server: Server, outcome: Outcome, count: int, first: bytes) -> None:
    """Open connections, send the same beginning on each, and hold them until the server closes them, 15 s at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count + 500)), hard))
    count = min(count, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500)
    with contextlib.ExitStack() as opened:
        connections = []
        for _ in range(count):
            try:
                connection = socket.create_connection(server.address, timeout=10)
            except OSError as error:
                outcome.note(type(error).__name__)
                continue
            opened.callback(connection.close)
            with contextlib.suppress(OSError):
                connection.sendall(first)
            connections.append(connection)
        outcome.answers["opened"] += len(connections)
        end = time.monotonic() + 15
        for connection in connections:
            connection.settimeout(max(0.01, end - time.monotonic()))
            try:
                data = connection.recv(4096)
                outcome.note(data[9:12].decode("latin-1") if data else "closed")
            except TimeoutError:
                outcome.note("held")
            except OSError as error:
                outcome.note(type(error).__name__)


def in_threads(seconds: float, attack: Callable[[random.Random, float], None]) -> None:
    """Run an attack in several threads, each with its own seed, until the time is over."""
    end = time.monotonic() + seconds
    threads = [threading.Thread(target=attack, args=(random.Random(number), end)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def alter(data: bytes, rng: random.Random) -> bytes:
    """Change, cut, repeat or insert a few bytes."""
    altered = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(len(altered) + 1)
        match rng.randrange(4):
            case 0:
                altered[place : place + 1] = rng.randbytes(1)
            case 1:
                del altered[place : place + rng.randint(1, 64)]
            case 2:
                altered[place:place] = altered[place : place + rng.randint(1, 64)]
            case _:
                altered[place:place] = rng.choice([b"\0", b"\xff" * 4, b"9" * 30, b'"', b"[", b"-1", b"NaN", b"\r\n"])
    return bytes(altered)


def image() -> bytes:
    """Encode a small picture."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def plain_requests(server: Server) -> list[tuple[str, str, bytes]]:
    """Return path, media type and body of requests that would be answered."""
    text = base64.b64encode(image()).decode()
    infer = {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [text]}]}
    part = b'--XX\r\nContent-Disposition: form-data; name="i"; filename="i"\r\n\r\n' + image() + b"\r\n--XX--\r\n"
    return [
        ("/predict", "image/jpeg", image()),
        ("/predict", "application/json", json.dumps({"images": [{"b64": text}]}).encode()),
        ("/predict", "multipart/form-data; boundary=XX", part),
        (f"/v1/models/{server.model}:predict", "application/json", json.dumps({"instances": [{"b64": text}]}).encode()),
        (f"/v2/models/{server.model}/infer", "application/json", json.dumps(infer).encode()),
    ]


def whole(path: str, kind: str, body: bytes) -> tuple[bytes, bytes]:
    """Return head and body as they go over the wire."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode(), body


def altered_rest(server: Server, outcome: Outcome, seconds: float) -> None:
    """Send requests of which some bytes are others: of the body, then its length is told right, or of the head."""
    requests = plain_requests(server)

    def attack(rng: random.Random, end: float) -> None:
        while time.monotonic() < end:
            path, kind, body = rng.choice(requests)
            if rng.random() < 0.8:
                head, body = whole(path, kind, alter(body, rng))
            else:
                head, body = whole(path, kind, body)
                head = alter(head, rng)
            answer = b""
            try:
                with socket.create_connection(server.address, timeout=5) as connection:
                    connection.sendall(head + body)
                    # Where "Connection: close" was altered the server waits for the next request.
                    with contextlib.suppress(TimeoutError):
                        while part := connection.recv(65536):
                            answer += part
            except OSError as error:
                outcome.note(type(error).__name__)
                continue
            status = answer[9:12].decode("latin-1") or "no answer"
            outcome.note(status, answer.decode("latin-1"), is_fault=status in {"500", "502"})

    in_threads(seconds, attack)


def altered_grpc(server: Server, outcome: Outcome, seconds: float) -> None:
    """Send messages of which some bytes are others."""
    name = server.model.encode()
    content = struct.pack("<I", len(image())) + image()
    tensor = b"\x0a\x05image\x12\x05BYTES\x1a\x01\x01"
    length = len(content)
    varint = b""
    while length > 127:
        varint, length = varint + bytes([length % 128 + 128]), length // 128
    message = b"\x0a" + bytes([len(name)]) + name + b"\x2a" + bytes([len(tensor)]) + tensor
    message += b"\x3a" + varint + bytes([length]) + content

    def attack(rng: random.Random, end: float) -> None:
        with grpc.insecure_channel(server.grpc, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = channel.unary_unary(GRPC_METHOD)
            while time.monotonic() < end:
                try:
                    call(alter(message, rng), timeout=10)
                    outcome.note("OK")
                except grpc.RpcError as error:
                    code = error.code().name
                    outcome.note(code, str(error.details()), is_fault=code in {"UNKNOWN", "INTERNAL"})

    in_threads(seconds, attack)


def main() -> None:
    """Attack, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each attack that has no end of its own")
    parser.add_argument("--connections", type=int, default=10_000)
    given = parser.parse_args()
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\nx"
    attacks: dict[str, Callable[[Server, Outcome], None]] = {
        "connections that say nothing": lambda server, outcome: crowd(server, outcome, given.connections, b""),
        "half a head": lambda server, outcome: crowd(server, outcome, given.connections, b"GET / HTTP/1.1\r\nA: "),
        "a body that does not come": lambda server, outcome: crowd(server, outcome, given.connections, head),
        "altered REST requests": lambda server, outcome: altered_rest(server, outcome, given.seconds),
        "altered gRPC messages": lambda server, outcome: altered_grpc(server, outcome, given.seconds),
    }
    failures: list[str] = []
    with serving(given.bundle, given.connections) as server:
        print(
            "| attack | answers | slowest health check ms | memory before MiB | after |\n"
            "| --- | --- | ---: | ---: | ---: |"
        )
        for name, attack in attacks.items():
            outcome, before = Outcome(), server.memory_mib
            with watched(server, outcome):
                attack(server, outcome)
            words = ", ".join(f"{count} {kind}" for kind, count in outcome.answers.most_common())
            slowest = outcome.slowest_health_s * 1000
            print(f"| {name} | {words} | {slowest:.0f} | {before:.0f} | {server.memory_mib:.0f} |", flush=True)
            failures += outcome.faults
            if server.process.poll() is not None or httpx.get(f"{server.url}/v2/health/ready").status_code != 200:
                failures.append(f"after {name}: the server is not ready any more")
                break
    for failure in failures:
        print(failure, file=sys.stderr)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
