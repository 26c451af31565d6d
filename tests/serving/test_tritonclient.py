"""Triton's own client, REST and gRPC, talks to the server unmodified."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionyard.inference import Predictor
from visionyard.transforms import decode_image


@pytest.fixture(scope="module", params=["http", "grpc"])
def told(
    request: pytest.FixtureRequest,
    server: Any,
    tmp_path_factory: pytest.TempPathFactory,
    rotated: bytes,
    predictors: dict[str, Predictor],
) -> dict[str, Any]:
    """Return what Triton's client was told."""
    if importlib.util.find_spec("tritonclient") is None:
        pytest.skip("needs tritonclient[http,grpc]")
    folder = tmp_path_factory.mktemp("triton")
    (folder / "image.jpg").write_bytes(rotated)
    pixels = decode_image(rotated)
    np.save(folder / "pixels.npy", pixels)
    np.save(folder / "batch.npy", predictors["kinds"].preprocessing.apply_all([pixels])[0])
    address = server.url.removeprefix("http://") if request.param == "http" else server.grpc
    command = [sys.executable, str(Path(__file__).parent / "triton_child.py"), request.param, address, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def test_it_sees_a_ready_server(told: dict[str, Any]) -> None:
    assert told["is_ready"] == [True, True, True]
    assert told["first_input"] == "image"


def test_an_encoded_image_and_requested_outputs(
    told: dict[str, Any], rotated: bytes, expect: Callable[..., Any], assert_same: Callable[..., None]
) -> None:
    expected = expect("boxes", rotated, 0.3)

    assert_same(told["predictions"], expected)
    np.testing.assert_allclose(told["xyxy"], expected.xyxy, atol=1e-3)
    assert told["not_asked_for"]


def test_all_outputs_come_when_none_is_named(told: dict[str, Any]) -> None:
    assert told["shapes_of_two"] == [[2, 2], [2]]


def test_pixels_and_the_own_input(told: dict[str, Any], rotated: bytes, predictors: dict[str, Predictor]) -> None:
    predictor = predictors["kinds"]
    outputs, placements = predictor.respond([decode_image(rotated)])

    np.testing.assert_allclose(told["own"], outputs[0], atol=1e-4)
    (expected,) = predictor.interpret(outputs, placements)
    np.testing.assert_allclose(told["pixels"][0], expected.probabilities, atol=1e-4)  # type: ignore[union-attr]


def test_a_mistake_comes_back_as_tritons_error(told: dict[str, Any]) -> None:
    assert "not an image" in told["error"]
