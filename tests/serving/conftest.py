"""A real server in a process of its own, on free ports, with the tiny detector and the tiny classifier."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.fixtures.instance_models import import_instance_models
from visionyard.inference import Predictor
from visionyard.transforms import Classification, Prediction, decode_image

START_TIMEOUT_S = 60.0
BOXES, KINDS = "boxes", "kinds"  # the names that the two bundles are served under


@dataclass
class RunningServer:
    """A server that is ready."""

    process: "subprocess.Popen[str]"
    url: str = ""
    grpc: str = ""
    output: list[str] = field(default_factory=list)
    log_lines: list[str] = field(default_factory=list)
    is_ready: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The JSON lines written so far."""
        return [json.loads(line) for line in list(self.log_lines) if line.startswith("{")]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)

    def close(self) -> None:
        """Read what is left of the output of a server that has ended."""
        for thread, stream in zip(self.threads, (self.process.stdout, self.process.stderr), strict=True):
            thread.join(10)
            assert stream is not None
            stream.close()

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if found := re.match(r"listening on (\S+?)(?:, gRPC on (\S+))?; loading", line):
                self.url, self.grpc = found[1], found[2] or ""
            if line.startswith("ready"):
                self.is_ready.set()
        self.is_ready.set()

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log_lines.append(line)


def launch(*arguments: str) -> RunningServer:
    """Start `visionyard serve` on free ports, and wait until it is ready."""
    command = [sys.executable, "-W", "error::DeprecationWarning", "-m", "visionyard", "serve"]
    process = subprocess.Popen(
        [*command, "--http-port", "0", "--grpc-port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
    )
    server = RunningServer(process)
    server.threads += [threading.Thread(target=read, daemon=True) for read in (server._read_output, server._read_log)]
    for thread in server.threads:
        thread.start()
    if not server.is_ready.wait(START_TIMEOUT_S):
        process.kill()
        pytest.fail(f"the server was not ready in {START_TIMEOUT_S} s:\n{''.join(server.log_lines)}")
    if not any(line.startswith("ready") for line in server.output):
        process.wait(10)
        server.close()
        pytest.fail(f"the server ended with {process.returncode}:\n{''.join(server.log_lines)}")
    return server


@pytest.fixture(scope="module")
def start_server() -> Iterator[Callable[..., RunningServer]]:
    """Return a function that starts a server with arguments; those that still run are stopped at the end."""
    started: list[RunningServer] = []

    def start(*arguments: str) -> RunningServer:
        server = launch(*arguments)
        started.append(server)
        return server

    yield start
    for server in started:
        if server.process.poll() is None:
            assert server.stop() == 0, "".join(server.log_lines)
        server.process.wait(30)
        server.close()


@pytest.fixture(scope="session")
def bundle_paths(tiny_bundle: Callable[[str], tuple[Path, Path]]) -> dict[str, Path]:
    """Return the bundles by the names they are served under."""
    return {BOXES: tiny_bundle("detection")[0], KINDS: tiny_bundle("classification")[0]}


@pytest.fixture(scope="session")
def bundle_arguments(bundle_paths: dict[str, Path]) -> list[str]:
    """Return the arguments that serve both bundles."""
    names = [part for name in bundle_paths for part in ("--name", name)]
    return [*map(str, bundle_paths.values()), *names]


@pytest.fixture(scope="module")
def server(start_server: Callable[..., RunningServer], bundle_arguments: list[str]) -> RunningServer:
    """Return a server with both models and otherwise the defaults; one for each test module."""
    running = start_server(*bundle_arguments)
    assert running.process.poll() is None, "".join(running.log_lines)
    return running


@pytest.fixture(scope="session")
def instance_bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return two imported bundles by name: `discs` finds masks, `points` two points an object."""
    return import_instance_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def instances(instance_bundles: dict[str, Path]) -> Iterator[RunningServer]:
    """Return a server with both, which gives 104857 pixels of masks in an answer."""
    names = [part for name in instance_bundles for part in ("--name", name)]
    running = launch(*map(str, instance_bundles.values()), *names, "--set", "limits.max_mask_mib=0.1")
    yield running
    assert running.stop() == 0, "".join(running.log_lines)
    running.close()


@pytest.fixture(scope="module")
def http(server: RunningServer) -> Iterator[httpx.Client]:
    """Return a client of the module's server."""
    with httpx.Client(base_url=server.url, timeout=20) as client:
        yield client


@pytest.fixture(scope="session")
def predictors(bundle_paths: dict[str, Path]) -> Iterator[dict[str, Predictor]]:
    """Return what answers without any server, by the name of the model."""
    loaded = {name: Predictor.from_bundle(path) for name, path in bundle_paths.items()}
    yield loaded
    for predictor in loaded.values():
        predictor.close()


@pytest.fixture(scope="session")
def expect(predictors: dict[str, Predictor]) -> Callable[..., Prediction]:
    """Return a function from a model's name and an encoded image to what the model says of it."""

    def predict(name: str, image: bytes, confidence: float | None = None) -> Prediction:
        return predictors[name].predict([decode_image(image)], confidence_threshold=confidence)[0]

    return predict


def picture() -> np.ndarray:
    """Return (80, 96, 3): grey noise with a red and a blue square, not symmetric in any way."""
    image = np.random.default_rng(3).integers(90, 150, (80, 96, 1)).repeat(3, axis=2).astype(np.uint8)
    image[10:26, 12:28] = (220, 40, 30)
    image[40:56, 64:80] = (30, 40, 220)
    return image


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return an encoded image."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def make_images() -> dict[str, bytes]:
    """Return images of all sorts, encoded, by what is special about each."""
    plain = Image.fromarray(picture())
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = (np.asarray(plain.convert("L")).astype(np.uint16) * 257).astype("<u2")
    alpha = plain.copy()
    alpha.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 96).astype(np.uint8), (80, 1))))
    return {
        "png": encode(plain, "PNG"),
        "jpeg": encode(plain, "JPEG", quality=92),
        "webp": encode(plain, "WEBP", lossless=True),
        "bmp": encode(plain, "BMP"),
        "exif-rotated": encode(plain, "JPEG", quality=92, exif=exif),
        "grey": encode(plain.convert("L"), "PNG"),
        "rgba": encode(alpha, "PNG"),
        "16-bit": encode(Image.fromarray(deep), "PNG"),
        "cmyk": encode(plain.convert("CMYK"), "JPEG", quality=92),
    }


IMAGES = make_images()


def same(found: dict[str, Any], expected: Prediction, *, tolerance: float = 1e-4) -> None:
    """Assert that a prediction in JSON is what was expected, to its rounding of pixels and else 1e-4."""
    if isinstance(expected, Classification):
        assert found["class_id"] == expected.class_id
        by_id = {each["class_id"]: each["confidence"] for each in found["top"]}
        for class_id, confidence in by_id.items():
            assert confidence == pytest.approx(float(expected.probabilities[class_id]), abs=tolerance)
        return
    assert [box["class_id"] for box in found["boxes"]] == expected.class_ids.tolist()
    for box, xyxy, confidence in zip(found["boxes"], expected.xyxy, expected.confidence, strict=True):
        assert box["xyxy"] == pytest.approx(xyxy.tolist(), abs=0.0051)  # two digits are given
        assert box["confidence"] == pytest.approx(float(confidence), abs=tolerance)


@pytest.fixture
def images() -> dict[str, bytes]:
    """Return encoded images by what is special about each."""
    return IMAGES


@pytest.fixture(scope="session")
def rotated() -> bytes:
    """Return a JPEG that EXIF turns by a quarter."""
    return IMAGES["exif-rotated"]


@pytest.fixture
def assert_same() -> Callable[..., None]:
    """Return a function that holds a prediction in JSON against the expected one."""
    return same


@pytest.fixture
def pixels() -> np.ndarray:
    """Return the picture that the images show, (80, 96, 3) uint8 RGB."""
    return picture()


@pytest.fixture(scope="session")
def make_certificate() -> Callable[[Path], tuple[Path, Path]]:
    """Return a function that makes, in a folder, a certificate for 127.0.0.1 that is signed by itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")

    def make(folder: Path) -> tuple[Path, Path]:
        folder.mkdir(exist_ok=True)
        certificate, key = folder / "tls.crt", folder / "tls.key"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
        command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        return certificate, key

    return make


@pytest.fixture
def tls_files(tmp_path: Path, make_certificate: Callable[[Path], tuple[Path, Path]]) -> tuple[Path, Path]:
    """Return a certificate and its key."""
    return make_certificate(tmp_path)
