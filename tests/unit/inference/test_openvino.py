"""OpenVINO answers as ONNX Runtime does, from several threads, and tells nobody."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionyard.errors import ArtifactError
from visionyard.inference import load_backend

pytestmark = pytest.mark.skipif(not find_spec("openvino"), reason="needs the extra openvino")

# Every attempt to reach out or to write a file is seen by the interpreter's audit events, whichever library makes it.
_WATCHED = """
import json, sys
seen = []
def watch(event, values):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen"):
        seen.append([event, str(values)])
    if event == "open" and isinstance(values[1], str) and set(values[1]) & set("wxa+"):
        seen.append([event, str(values[0])])
sys.addaudithook(watch)
import numpy as np
from visionyard.inference import load_backend
from pathlib import Path
backend = load_backend("openvino", Path(sys.argv[1]), threads=1)
backend.run_all(np.zeros((1, 3, 32, 32), np.float32))
telemetry = sorted(name for name in sys.modules if name.startswith("openvino_telemetry") and sys.modules[name])
print(json.dumps({"seen": seen, "telemetry": telemetry}))
"""


def test_it_sends_and_writes_nothing(tiny_bundle: Callable[..., Any], tmp_path: Path) -> None:
    model = tiny_bundle("classification")[0] / "model.onnx"
    home = tmp_path / "home"
    home.mkdir()

    done = subprocess.run(
        [sys.executable, "-B", "-c", _WATCHED, str(model)],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert json.loads(done.stdout) == {"seen": [], "telemetry": []}
    assert list(home.iterdir()) == []


def test_it_takes_the_batches_and_gives_the_numbers_of_onnx(tiny_bundle: Callable[..., Any]) -> None:
    path = tiny_bundle("detection")[0] / "model.onnx"
    batch = np.random.default_rng(0).random((5, 3, 96, 96), np.float32)
    onnx, openvino = load_backend("onnx", path, threads=1), load_backend("openvino", path, threads=1)

    for size in (1, 5, 2):
        np.testing.assert_allclose(openvino.run_all(batch[:size])[0], onnx.run_all(batch[:size])[0], atol=1e-4)


def test_threads_do_not_mix_up_their_answers(tiny_bundle: Callable[..., Any]) -> None:
    backend = load_backend("openvino", tiny_bundle("detection")[0] / "model.onnx", threads=1)
    batches = np.random.default_rng(0).random((24, 1, 3, 96, 96), np.float32)
    alone = [backend.run_all(batch) for batch in batches]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(backend.run_all, batches))

    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_output_that_is_not_there(tiny_bundle: Callable[..., Any]) -> None:
    with pytest.raises(ArtifactError, match="no output 'boxes'; it has output"):
        load_backend("openvino", tiny_bundle("detection")[0] / "model.onnx", outputs=["boxes"])
