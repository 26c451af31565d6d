"""The model server side by side with ONNX Runtime called directly, on one machine, in one run.

    python benchmarks/serving.py latency BUNDLE   one client: what the server adds to a direct call
    python benchmarks/serving.py load BUNDLE      16 clients: throughput against direct calls, and a plain KServe model
    python benchmarks/serving.py tensor BUNDLE    a 1x3x640x640 FP32 tensor: REST binary extension against gRPC
    python benchmarks/serving.py start BUNDLE     from process start to ready
    python benchmarks/serving.py soak BUNDLE --seconds 600    failures and memory under load

BUNDLE is a folder that `visionyard run` or `visionyard bundle import` made. Images: --images FOLDER of JPEG files, or
photographs that scikit-image and scikit-learn carry. The load comes from processes of its own, on the same cores.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import psutil
from PIL import Image

CLIENTS = 16


@dataclass(frozen=True)
class Load:
    """What clients saw: seconds of each request, failures, and how long it all took."""

    seconds: list[float]
    failed_count: int
    wall_s: float

    @property
    def per_s(self) -> float:
        """Return answered requests a second."""
        return len(self.seconds) / self.wall_s

    def ms(self, quantile: float) -> float:
        """Return a quantile of the latency, ms."""
        return 1000 * float(np.quantile(self.seconds, quantile))


def photographs(folder: Path | None, side_px: int) -> list[bytes]:
    """Return JPEG files: those of a folder, or photographs of installed packages scaled to a longer side."""
    if folder is not None:
        return [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))[:32]]
    from skimage import data
    from sklearn.datasets import load_sample_images

    pictures = [*load_sample_images().images, data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    encoded = []
    for picture in pictures:
        image = Image.fromarray(np.asarray(picture)[..., :3])
        image = image.resize([round(side * side_px / max(image.size)) for side in image.size])
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        encoded.append(buffer.getvalue())
    return encoded


@contextmanager
def server(command: list[str], http_port: int) -> Iterator[psutil.Process]:
    """Run a server until the block ends; yield it once it is ready."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_ready(http_port, process)
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def wait_ready(http_port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when the server says that it is ready."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with exit code {process.returncode}: {' '.join(process.args)}")
        try:
            with urlopen(f"http://127.0.0.1:{http_port}/v2/health/ready", timeout=2) as answer:
                if answer.status == 200 and b"false" not in answer.read().lower():
                    return
        except OSError:
            pass
        time.sleep(0.02)
    raise SystemExit("the server was not ready within 120 s")


def ours(bundle: Path, ports: tuple[int, int], *settings: str) -> list[str]:
    """Return the command of our server; drift watching stays on, as by default."""
    overrides = [part for setting in ("log_level=warning", *settings) for part in ("--set", setting)]
    listen = ["--http-port", str(ports[0]), "--grpc-port", str(ports[1]), "--name", "model"]
    return [str(Path(sys.executable).parent / "visionyard"), "serve", str(bundle), *listen, *overrides]


def plain(bundle: Path, ports: tuple[int, int]) -> list[str]:
    """Return the command of a KServe custom model as its documentation writes one."""
    return [sys.executable, __file__, "plain-kserve", str(bundle), "--ports", *map(str, ports)]


def run_plain_kserve(bundle: Path, ports: tuple[int, int]) -> None:
    """Serve a bundle by KServe's SDK alone: base64 in JSON, one inference a request, in the handler."""
    sys.argv = sys.argv[:1]
    import base64

    from kserve import InferOutput, InferResponse, Model, ModelServer

    from visionyard.inference import Predictor, prediction_to_json
    from visionyard.transforms import decode_image

    class Plain(Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__("model")
            self.predictor = Predictor.from_bundle(bundle)
            self.ready = True

        def predict(self, payload, headers=None, response_headers=None):  # type: ignore[no-untyped-def]
            texts = payload.inputs[0].as_numpy().ravel()
            images = [decode_image(base64.b64decode(text)) for text in texts]
            found = [
                json.dumps(prediction_to_json(one, self.predictor.classes)) for one in self.predictor.predict(images)
            ]
            return InferResponse("1", self.name, [InferOutput("predictions", [len(found)], "BYTES", data=found)])

    ModelServer(http_port=ports[0], grpc_port=ports[1], enable_latency_logging=False).start([Plain()])


def raw_request(image: bytes) -> bytes:
    """Return the whole HTTP request that posts an encoded image to our server."""
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
    return head.encode() + image


def json_request(image: bytes) -> bytes:
    """Return the whole HTTP request that posts an image to KServe's v2 route as base64."""
    import base64

    value = {
        "id": "1",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(image).decode()]}],
    }
    body = json.dumps(value).encode()
    head = "POST /v2/models/model/infer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class _Client:
    """One caller on a kept connection: what is left to send, and what has come back."""

    connection: socket.socket
    requests: Iterator[bytes]
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    answer: bytearray = field(default_factory=bytearray)
    started: float = 0.0

    def ask(self) -> None:
        self.started = time.perf_counter()
        self.unsent, self.answer = memoryview(next(self.requests)), bytearray()
        self.send()

    def send(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.unsent:
                self.unsent = self.unsent[self.connection.send(self.unsent) :]

    def status(self) -> int:
        """Take what has come; return the answer's status once it is whole, 0 before."""
        data = self.connection.recv(1 << 18)
        if not data:
            raise ConnectionError("the server closed a connection under load")
        self.answer += data
        head, found, body = bytes(self.answer).partition(b"\r\n\r\n")
        if not found:
            return 0
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        return int(head.split(b" ", 2)[1]) if len(body) >= length else 0


def _clients(port: int, requests: list[bytes], client_count: int, duration_s: float, pipe: object) -> None:
    """Ask in one thread, without asyncio's copies: on few cores what the clients take is missing to the server."""
    seconds: list[float] = []
    failed = 0
    selector = selectors.DefaultSelector()
    both = selectors.EVENT_READ | selectors.EVENT_WRITE
    started = time.perf_counter()
    stop_at = started + duration_s
    for number in range(client_count):
        shift = number % len(requests)
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setblocking(False)
        client = _Client(connection, cycle(requests[shift:] + requests[:shift]))
        client.ask()
        selector.register(connection, both if client.unsent else selectors.EVENT_READ, client)
    while selector.get_map():
        for key, events in selector.select():
            client = key.data
            if events & selectors.EVENT_WRITE:
                client.send()
            status = client.status() if events & selectors.EVENT_READ else 0
            if status:
                now = time.perf_counter()
                if status == 200:
                    seconds.append(now - client.started)
                else:
                    failed += 1
                if now >= stop_at:
                    selector.unregister(client.connection)
                    client.connection.close()
                    continue
                client.ask()
            wanted = both if client.unsent else selectors.EVENT_READ
            if wanted != key.events:
                selector.modify(client.connection, wanted, client)
    pipe.send(Load(seconds, failed, time.perf_counter() - started))  # type: ignore[attr-defined]


def load(port: int, requests: list[bytes], client_count: int, duration_s: float) -> Load:
    """Let clients ask one after the other on kept connections, from a process of their own."""
    ours_end, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_clients, args=(port, requests, client_count, duration_s, theirs))
    process.start()
    result: Load = ours_end.recv()
    process.join()
    return result


def direct_latency(bundle: Path, images: list[bytes], duration_s: float) -> Load:
    """Decode, preprocess, infer and postprocess one image after the other in this process, all cores an inference."""
    from visionyard.inference import Predictor
    from visionyard.transforms import decode_image

    seconds = []
    with Predictor.from_bundle(bundle) as predictor:
        for image in images * 3:
            predictor.predict([decode_image(image)])
        started = time.perf_counter()
        for image in cycle(images):
            before = time.perf_counter()
            predictor.predict([decode_image(image)])
            seconds.append(time.perf_counter() - before)
            if before - started > duration_s:
                break
        return Load(seconds, 0, time.perf_counter() - started)


def direct_throughput(bundle: Path, images: list[bytes], duration_s: float) -> dict[str, float]:
    """Return images a second of direct calls, by callers x threads x batch."""
    cores = os.cpu_count() or 1
    found = {}
    for callers, threads in ((cores, 1), (1, cores)):
        for batch in (1, 4, 8):
            found[f"{callers} callers, {threads} threads, batch {batch}"] = _direct_throughput(
                bundle, images, duration_s, callers, threads, batch
            )
    return found


def _direct_throughput(
    bundle: Path, images: list[bytes], duration_s: float, callers: int, threads: int, batch: int
) -> float:
    from visionyard.inference import Predictor
    from visionyard.transforms import decode_image

    with Predictor.from_bundle(bundle, threads=threads) as predictor:
        predictor.predict([decode_image(images[0])] * batch, batch_size=batch)
        stop_at = time.perf_counter() + duration_s
        counts = [0] * callers

        def work(number: int) -> None:
            source = cycle(images)
            while time.perf_counter() < stop_at:
                predictor.predict([decode_image(next(source)) for _ in range(batch)], batch_size=batch)
                counts[number] += batch

        started = time.perf_counter()
        with ThreadPoolExecutor(callers) as pool:
            list(pool.map(work, range(callers)))
        return sum(counts) / (time.perf_counter() - started)


def latency(bundle: Path, images: list[bytes], duration_s: float, ports: tuple[int, int]) -> None:
    """One client against direct calls, in turn."""
    rows = []
    with server(ours(bundle, ports), ports[0]):
        requests = [raw_request(image) for image in images]
        load(ports[0], requests, 1, 2)
        for _ in range(3):
            direct = direct_latency(bundle, images, duration_s)
            served = load(ports[0], requests, 1, duration_s)
            rows.append((direct.ms(0.5), served.ms(0.5), direct.ms(0.99), served.ms(0.99)))
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    print("| one client | p50 ms | p99 ms |\n| --- | ---: | ---: |")
    print(f"| direct | {medians[0]:.2f} | {medians[2]:.2f} |\n| server | {medians[1]:.2f} | {medians[3]:.2f} |")
    ratio = statistics.median(row[1] / row[0] for row in rows)
    print(f"added at p50: {statistics.median(row[1] - row[0] for row in rows):.2f} ms; ratio {ratio:.3f}")


def throughput(bundle: Path, images: list[bytes], duration_s: float, ports: tuple[int, int]) -> None:
    """16 clients against the best direct calls and against a plain KServe model."""
    direct = direct_throughput(bundle, images, duration_s / 2)
    print("| direct calls | images/s |\n| --- | ---: |")
    for name, per_s in direct.items():
        print(f"| {name} | {per_s:.1f} |")
    results = {}
    sides: dict[str, tuple[list[str], Callable[[bytes], bytes]]] = {
        "server": (ours(bundle, ports), raw_request),
        "plain KServe model": (plain(bundle, ports), json_request),
    }
    for name, (command, make) in sides.items():
        with server(command, ports[0]):
            requests = [make(image) for image in images]
            load(ports[0], requests, CLIENTS, 3)
            results[name] = load(ports[0], requests, CLIENTS, duration_s)
    best = max(direct.values())
    print(f"\n| {CLIENTS} clients | images/s | of direct's best | p50 ms | p99 ms | p99/p50 | failed |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, result in results.items():
        print(
            f"| {name} | {result.per_s:.1f} | {result.per_s / best:.2f} | {result.ms(0.5):.1f} | "
            f"{result.ms(0.99):.1f} | {result.ms(0.99) / result.ms(0.5):.1f} | {result.failed_count} |"
        )
    print(f"server against plain: {results['server'].per_s / results['plain KServe model'].per_s:.2f}")


def tensor(bundle: Path, ports: tuple[int, int]) -> None:
    """The model's own input as an FP32 tensor, by REST's binary extension and by gRPC, with Triton's client."""
    import tritonclient.grpc
    import tritonclient.http

    with server(ours(bundle, ports), ports[0]):
        found = {}
        for name, library, port in (
            ("REST binary", tritonclient.http, ports[0]),
            ("gRPC", tritonclient.grpc, ports[1]),
        ):
            client = library.InferenceServerClient(f"127.0.0.1:{port}")
            declared = {one["name"]: one for one in _inputs(ports[0])}
            own = next(one for one in declared if one != "image")
            shape = [1 if size < 0 else size for size in declared[own]["shape"]]
            value = np.random.default_rng(0).random(shape, np.float32)
            one = library.InferInput(own, shape, "FP32")
            one.set_data_from_numpy(value)
            seconds = []
            for _ in range(60):
                before = time.perf_counter()
                client.infer("model", [one])
                seconds.append(time.perf_counter() - before)
            found[name] = 1000 * statistics.median(seconds[10:])
            client.close()
    print(f"tensor {shape}, {value.nbytes / 1e6:.1f} MB\n\n| protocol | p50 ms |\n| --- | ---: |")
    for name, milliseconds in found.items():
        print(f"| {name} | {milliseconds:.2f} |")
    print(f"REST binary against gRPC: {found['REST binary'] / found['gRPC']:.2f} (both with the inference)")


def _inputs(http_port: int) -> list[dict[str, object]]:
    with urlopen(f"http://127.0.0.1:{http_port}/v2/models/model", timeout=10) as answer:
        inputs: list[dict[str, object]] = json.load(answer)["inputs"]
        return inputs


def start(bundle: Path, ports: tuple[int, int]) -> None:
    """From process start to ready, five times, files in the page cache."""
    seconds = []
    for _ in range(5):
        before = time.perf_counter()
        with server(ours(bundle, ports), ports[0]):
            seconds.append(time.perf_counter() - before)
    code = "import time; t = time.perf_counter(); from visionyard.serving import server; print(time.perf_counter() - t)"
    imports = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(3)]
    print(f"start to ready: median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s of 5")
    print(f"of it imports: {statistics.median(imports):.2f} s")


def soak(bundle: Path, images: list[bytes], duration_s: float, ports: tuple[int, int]) -> None:
    """16 clients for long: failures, and memory at each tenth of the time."""
    with server(ours(bundle, ports), ports[0]) as process:
        requests = [raw_request(image) for image in images]
        load(ports[0], requests, CLIENTS, 3)
        memory: list[float] = []
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(duration_s / 10):
                memory.append(process.memory_info().rss / 2**20)

        watcher = threading.Thread(target=watch)
        watcher.start()
        result = load(ports[0], requests, CLIENTS, duration_s)
        is_over.set()
        watcher.join()
    print(
        f"{result.wall_s:.0f} s, {len(result.seconds)} answers ({result.per_s:.1f}/s), {result.failed_count} failed, "
        f"p50 {result.ms(0.5):.1f} ms, p99 {result.ms(0.99):.1f} ms"
    )
    print("resident memory, MiB: " + ", ".join(f"{one:.0f}" for one in memory))


def _free_ports() -> tuple[int, int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports[0], ports[1]


def main() -> None:
    """Run one measurement and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["latency", "load", "tensor", "start", "soak", "plain-kserve"])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", type=Path, help="folder of JPEG files")
    parser.add_argument("--side-px", type=int, default=640, help="longer side of the packages' photographs")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement")
    parser.add_argument("--ports", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    ports = tuple(arguments.ports) if arguments.ports else _free_ports()
    if arguments.what == "plain-kserve":
        run_plain_kserve(arguments.bundle, ports)
    elif arguments.what in {"tensor", "start"}:
        {"tensor": tensor, "start": start}[arguments.what](arguments.bundle, ports)
    else:
        images = photographs(arguments.images, arguments.side_px)
        measure = {"latency": latency, "load": throughput, "soak": soak}[arguments.what]
        measure(arguments.bundle, images, arguments.seconds, ports)


if __name__ == "__main__":
    main()
