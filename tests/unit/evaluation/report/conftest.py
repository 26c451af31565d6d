"""A browser without a window, driven by the DevTools protocol over a pipe, and what a report is made from."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = [
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
_LAUNCHER = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
_PATIENCE_S = 20.0


class Browser:
    """One page of a headless browser."""

    def __init__(self, program: str, profile: Path) -> None:
        to_browser, commands = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in os.pipe())
        answers, from_browser = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in os.pipe())
        self._commands, self._answers = commands, answers
        launcher = [sys.executable, "-c", _LAUNCHER, str(to_browser), str(from_browser), program]
        self._process = subprocess.Popen(
            [*launcher, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(to_browser, from_browser),
            stderr=subprocess.DEVNULL,
        )
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
        end = time.monotonic() + _PATIENCE_S
        while not self.js(expression):
            assert time.monotonic() < end, f"{expression} did not come true"
            time.sleep(0.02)

    def complaints(self) -> list[Any]:
        """Return errors, warnings and console output since the page was opened."""
        kinds = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}
        return [event["params"] for event in self.events if event["method"] in kinds]

    def requests(self) -> list[str]:
        """Return the schemes of everything the page loaded since it was opened."""
        sent = [event["params"] for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return sorted({one["request"]["url"].partition(":")[0] for one in sent})

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(_PATIENCE_S)
        os.close(self._commands)
        os.close(self._answers)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Return a browser that all tests share."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip(f"needs a browser: one of {', '.join(_NAMES)}")
    opened = Browser(program, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def write_json() -> Callable[[Path, Any], Path]:
    """Return a function that writes JSON into a new folder and returns the folder."""

    def write(path: Path, values: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
        return path.parent

    return write


@pytest.fixture(scope="session")
def training_values() -> dict[str, Any]:
    """Return the settings that a training writes down."""
    plan = {"model_name": "yolo-detection", "preset": "tiny", "image_size_px": 64, "batch_size": 4, "weights": ""}
    return {"schema_version": 1, "plan": plan, "device": "cpu", "best_epoch": 2}


@pytest.fixture(scope="session")
def bundle_values() -> dict[str, Any]:
    """Return the manifest of a model bundle, as far as the report reads it."""
    forms = {"onnx": {"file": "model.onnx", "sha256": "1" * 64}}
    return {
        "schema_version": 1,
        "name": "cells",
        "licence": "Apache-2.0",
        "checkpoint_digest": "c" * 64,
        "formats": forms,
    }


@pytest.fixture(scope="session")
def parity_values() -> dict[str, Any]:
    """Return a parity certificate that failed on one image."""
    row = {"image": "item-001", "kind": "real", "compared": 3, "missing": 0, "extra": 0, "iou_gap": None}
    rows = [
        {**row, "score_gap": 1e-6, "verdict": "same", "problems": []},
        {**row, "score_gap": 0.2, "verdict": "differs", "problems": ["score differs by 0.2, allowed 0.001"]},
    ]
    result = {"is_passed": False, "metric": 0.5, "metric_gap": 0.0, "problems": [], "rows": rows}
    return {
        "schema_version": 1,
        "is_passed": False,
        "tolerances": {"score": 0.001, "metric": 0.001, "box_iou": 0.99, "score_applied": 0.001},
        "metric_name": "map_50_95",
        "reference_metric": 0.5,
        "formats": {"onnx": result},
    }


@pytest.fixture(scope="session")
def benchmark_values() -> dict[str, Any]:
    """Return the measurements of a benchmark with two combinations."""
    phases = {"decode_ms": 1.0, "preprocess_ms": 0.5, "infer_ms": 8.0, "postprocess_ms": 0.5}
    sizes = {"load_ms": 50.0, "peak_memory_bytes": 200_000_000, "file_bytes": 5_000_000, "images_per_s": 100.0}
    rows = [
        {"format": "onnx", "batch_size": 1, "threads": threads, "p50_ms": p50, "p95_ms": p50 + 1, "p99_ms": p50 + 2}
        | phases
        | sizes
        for threads, p50 in ((1, 12.5), (2, 7.5))
    ]
    return {
        "schema_version": 1,
        "measurements": rows,
        "skipped": [],
        "fastest": rows[1],
        "most_images_per_s": rows[1],
        "machine": {"cpu": "a processor", "cores": 2},
    }
