"""What several test folders share."""

import fcntl
import gc
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.fixtures.s3_server import ACCESS_KEY, SECRET_KEY, s3_client
from tests.fixtures.seaweed import Seaweed
from visionyard.data.artifacts import write_manifest
from visionyard.data.dataset import index_schema
from visionyard.data.shards import ShardWriter
from visionyard.storage import base

REPOSITORY = Path(__file__).parent.parent

# Tables are as wide as a test says, not as the terminal that the tests run in.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)

pytest_plugins = ["tests.fixtures.tiny_models", "tests.fixtures.tiny_tables"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with slow files where processes share them, so that none is left to a single process at the end."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Leave what the imports made to itself: half a million objects that the collector would look through again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again after moments in place of seconds."""
    monkeypatch.setattr(base, "_FIRST_WAIT_S", 0.01)


@pytest.fixture(autouse=True)
def node_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what trainings leave on the node within the tests."""
    folder = tmp_path_factory.getbasetemp() / "node-cache"
    monkeypatch.setenv("VISIONYARD_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Return a function from a data set's name to its folder, which skips the test where it is absent."""
    root = Path(os.environ.get("VISIONYARD_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))

    def find(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            pytest.skip(f"needs the real data set {name} in {root} (set VISIONYARD_SHARED_DATA)")
        return folder

    return find


def _encode_png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def write_dataset(folder: Path, *, task: str, classes: list[str], rows: list[dict[str, Any]]) -> Path:
    """Write a dataset version by hand, as visionyard.data.dataset documents it.

    Each row has `split`, `image` ((H, W, 3) uint8), `class_ids`, for detection `xyxy`; `group` is its key by default.
    Optional: `masks` (of each box a `Mask` or None), `is_crowd` (bools), `semantic_mask` ((H, W) uint8 class ids).
    """
    table = []
    folder.mkdir(parents=True)
    for split in ("test", "train", "val"):
        with ShardWriter(folder / "shards", split) as writer:
            for number, row in enumerate(row for row in rows if row["split"] == split):
                key = row.get("key", f"{split}-{number:04d}")
                data = _encode_png(row["image"])
                mask = _encode_png(row["semantic_mask"]) if "semantic_mask" in row else None
                files = [(f"{key}.png", data)] + ([(f"{key}.mask.png", mask)] if mask else [])
                blob, *mask_blobs = writer.add_together(files)
                table.append(
                    {
                        "key": key,
                        "split": split,
                        "group": row.get("group", key),
                        "source": f"{key}.png",
                        "timestamp_s": None,
                        "width": row["image"].shape[1],
                        "height": row["image"].shape[0],
                        "sha256": hashlib.sha256(data).hexdigest(),
                        "class_ids": [int(value) for value in row["class_ids"]],
                        "boxes": np.asarray(row["xyxy"], float).ravel().tolist() if task == "detection" else None,
                        "shard": blob.shard,
                        "image_name": f"{key}.png",
                        "image_offset": blob.offset,
                        "image_size": blob.size,
                        "masks": [mask and mask.counts for mask in row["masks"]] if "masks" in row else None,
                        "is_crowd": row.get("is_crowd"),
                        "mask_offset": mask_blobs[0].offset if mask_blobs else None,
                        "mask_size": mask_blobs[0].size if mask_blobs else None,
                    }
                )
    pq.write_table(pa.Table.from_pylist(table, schema=index_schema()), folder / "index.parquet")
    digest = hashlib.sha256(repr([(row["key"], row["sha256"], row["class_ids"]) for row in table]).encode()).hexdigest()
    counts = {split: sum(row["split"] == split for row in table) for split in ("train", "val", "test")}
    values = {"task": task, "classes": classes, "digest": digest, "counts": counts, "leak": {"is_leaky": False}}
    values["has_masks"] = any(mask for row in rows for mask in row.get("masks", ()))
    write_manifest(folder, "dataset", values, name="dataset.json")
    return folder


_SHAPES = ("square", "disc")


def draw_shape(random: np.random.Generator, class_id: int, size_px: int) -> tuple[np.ndarray, list[float]]:
    """Return a noisy picture with one bright square or dark disc, and its box."""
    image = random.integers(90, 130, (size_px, size_px, 3)).astype(np.uint8)
    side = int(random.integers(size_px // 4, size_px // 2))
    left, top = (int(value) for value in random.integers(0, size_px - side, 2))
    rows, columns = np.mgrid[0:size_px, 0:size_px]
    inside = (columns >= left) & (columns < left + side) & (rows >= top) & (rows < top + side)
    if class_id:
        centre_x, centre_y = left + side / 2, top + side / 2
        inside = (columns + 0.5 - centre_x) ** 2 + (rows + 0.5 - centre_y) ** 2 < (side / 2) ** 2
    image[inside] = (20, 30, 160) if class_id else (240, 220, 60)
    return image, [left, top, left + side, top + side]


@pytest.fixture
def shapes_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a small dataset version of squares and discs, learnable in seconds."""

    def make(task: str, *, train: int = 24, val: int = 8, test: int = 8, size_px: int = 64, seed: int = 0) -> Path:
        random = np.random.default_rng(seed)
        rows = []
        for split, count in (("train", train), ("val", val), ("test", test)):
            for number in range(count):
                image, xyxy = draw_shape(random, number % 2, size_px)
                rows.append({"split": split, "image": image, "class_ids": [number % 2], "xyxy": [xyxy]})
        return write_dataset(tmp_path / f"dataset-{task}-{seed}", task=task, classes=list(_SHAPES), rows=rows)

    return make


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a SeaweedFS with S3 on free ports; gone at the end."""
    server = Seaweed(tmp_path_factory.mktemp("s3"))
    server.start()
    try:
        yield server.endpoint
    finally:
        server.stop()


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of a fresh bucket that the environment gives access to."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "MINIO_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    s3_client(s3_endpoint).make_bucket(bucket)
    return f"s3://{bucket}"


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files by path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_BROWSER_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
]
# The browser reads commands from descriptor 3 and answers on 4.
_BROWSER_LAUNCHER = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
_BROWSER_PATIENCE_S = 20.0


class Browser:
    """One page of a headless browser, driven by the DevTools protocol over a pipe."""

    def __init__(self, program: str, profile: Path) -> None:
        to_browser, commands = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in os.pipe())
        answers, from_browser = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in os.pipe())
        self._commands, self._answers = commands, answers
        launcher = [sys.executable, "-c", _BROWSER_LAUNCHER, str(to_browser), str(from_browser), program]
        self._process = subprocess.Popen(
            [*launcher, *_BROWSER_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(to_browser, from_browser),
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)  # so that reading ends when the browser does
        self._received, self._number, self._session = b"", 0, {}
        self.events: list[dict[str, Any]] = []
        target = next(one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        answer = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = {"sessionId": answer["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Send a command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **self._session}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            chunk = os.read(self._answers, 1 << 20)
            assert chunk, "the browser ended"
            self._received += chunk
        message, _, self._received = self._received.partition(b"\0")
        return dict(json.loads(message))

    def open(self, address: str, width: int = 1200) -> None:
        """Load a page, from an empty one, and wait for it."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url="about:blank")
        self.events.clear()
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + _BROWSER_PATIENCE_S
        while not self.js(expression):
            assert time.monotonic() < end, f"{expression} did not come true"
            time.sleep(0.02)

    def complaints(self) -> list[Any]:
        """Return errors, warnings and console output since the page was opened."""
        kinds = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}
        return [event["params"] for event in self.events if event["method"] in kinds]

    def urls(self) -> list[str]:
        """Return the address of everything the page loaded since it was opened."""
        sent = [event["params"] for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in sent]

    def requests(self) -> list[str]:
        """Return the schemes of everything the page loaded since it was opened."""
        return sorted({url.partition(":")[0] for url in self.urls()})

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(_BROWSER_PATIENCE_S)
        os.close(self._commands)
        os.close(self._answers)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Return a browser that all tests share."""
    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if program is None:
        pytest.skip(f"needs a browser: one of {', '.join(_BROWSERS)}")
    opened = Browser(program, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()
