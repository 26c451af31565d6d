"""Visionyard's own client and `visionyard predict --url` against a real server: the answers of the bundle itself."""

import asyncio
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.clips import write_clip
from visionyard.client import AsyncClient, Client
from visionyard.errors import DeniedError, NotFoundError, RequestError
from visionyard.inference import prediction_to_json
from visionyard.transforms import decode_image


def _image(number: int, size_wh: tuple[int, int] = (96, 80)) -> np.ndarray:
    rng = np.random.default_rng(number)
    image = rng.integers(90, 150, (size_wh[1], size_wh[0], 3)).astype(np.uint8)
    left, top = int(rng.integers(size_wh[0] - 16)), int(rng.integers(size_wh[1] - 16))
    image[top : top + 16, left : left + 16] = (220, 40, 30)
    return image


def _encoded(image: np.ndarray, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, form)
    return stream.getvalue()


@pytest.fixture
def addresses(server: Any) -> dict[str, str]:
    return {"rest": server.url, "grpc": f"grpc://{server.grpc}"}


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
@pytest.mark.parametrize("model", ["boxes", "kinds"])
def test_the_answers_are_the_bundles_own(
    addresses: dict[str, str], predictors: Any, protocol: str, model: str, tmp_path: Path
) -> None:
    images = [_image(number, (96 + number, 80)) for number in range(9)]
    path = tmp_path / "a.jpg"
    path.write_bytes(_encoded(images[0], "JPEG"))
    inputs: list[Any] = [path, _encoded(images[1]), *images[2:]]
    predictor = predictors[model]
    pixels = [decode_image(path.read_bytes()), *images[1:]]
    expected = [
        {"width": one.shape[1], "height": one.shape[0], **prediction_to_json(found, predictor.classes)}
        for one, found in zip(pixels, predictor.predict(pixels), strict=True)
    ]

    with Client(addresses[protocol], model=model) as client:
        found = client.predict_many(inputs)
        single = client.predict(inputs[0])

    assert [_rounded(one.to_json()) for one in found] == [_rounded(one) for one in expected]
    assert _rounded(single.to_json()) == _rounded(expected[0])


def _rounded(values: Any) -> Any:
    """Round to what batches of another size may change in the last place."""
    if isinstance(values, float):
        return round(values, 3) if values <= 1 else round(values, 1)
    if isinstance(values, dict):
        return {key: _rounded(value) for key, value in values.items()}
    return [_rounded(one) for one in values] if isinstance(values, list) else values


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_options_reach_the_model(addresses: dict[str, str], protocol: str) -> None:
    image = _image(3)
    with Client(addresses[protocol], model="boxes") as client:
        everything = client.predict(image, confidence=0.01).to_json()["boxes"]
        sure = client.predict(image, confidence=0.5).to_json()["boxes"]
        one = client.predict(image, confidence=0.01, max_detections=1).to_json()["boxes"]
        assert len(everything) > len(sure) >= len(one) == 1
        assert all(box["confidence"] >= 0.5 for box in sure)
        assert len(client.predict(image, model="kinds", top_k=1).to_json()["top"]) == 1
        with pytest.raises(RequestError, match="confidence"):
            client.predict(image, confidence=7)
        with pytest.raises(NotFoundError, match="nobody"):
            client.predict(image, model="nobody")
        with pytest.raises(RequestError, match="not an image"):
            client.predict(b"no image")
        assert client.is_ready()
        assert client.model_info()["name"] == "boxes"


def test_asyncio_over_both_protocols(addresses: dict[str, str]) -> None:
    async def ask(url: str) -> Any:
        async with AsyncClient(url, model="boxes") as client:
            assert await client.is_ready()
            return await client.predict_many([_image(number) for number in range(20)])

    rest, grpc = asyncio.run(ask(addresses["rest"])), asyncio.run(ask(addresses["grpc"]))
    assert [_rounded(one.to_json()) for one in rest] == [_rounded(one.to_json()) for one in grpc]
    assert len(rest) == 20


def test_boxes_of_a_scaled_image_lie_where_they_were(addresses: dict[str, str]) -> None:
    large = np.asarray(Image.fromarray(_image(5)).resize((960, 800), Image.Resampling.NEAREST))
    with Client(addresses["rest"], model="boxes") as client:
        whole, scaled = client.predict(large), client.predict(large, downsize_px=480)
    assert scaled.width, scaled.height == (960, 800)
    assert len(whole.to_json()["boxes"]) == len(scaled.to_json()["boxes"]) > 0
    for one, other in zip(whole.to_json()["boxes"], scaled.to_json()["boxes"], strict=True):
        np.testing.assert_allclose(one["xyxy"], other["xyxy"], atol=10)


def test_a_key_opens_both_protocols(start_server: Any, bundle_arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("open-sesame\n")
    server = start_server(*bundle_arguments, "--set", f"auth.keys_file={tmp_path / 'keys'}")
    for url in (server.url, f"grpc://{server.grpc}"):
        with Client(url, model="boxes") as stranger, pytest.raises(DeniedError, match="api_key"):
            stranger.predict(_image(1))
        with Client(url, model="boxes", api_key="open-sesame") as friend:
            assert friend.predict(_image(1)).width == 96


def _command(*arguments: str, key: str = "") -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "VISIONYARD_API_KEY": key, "COLUMNS": "200"}
    command = [sys.executable, "-m", "visionyard", "predict", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    root.mkdir()
    for number in range(3):
        Image.fromarray(_image(number)).save(root / f"{number}.png")
    (root / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    write_clip(root / "clip.mp4", [_image(7)] * 20)
    return root


@pytest.mark.parametrize("model", ["boxes", "kinds"])
def test_predict_by_url_prints_what_the_bundle_prints(
    server: Any, bundle_paths: dict[str, Path], folder: Path, model: str
) -> None:
    local = _command(str(bundle_paths[model]), str(folder), "--json")
    remote = _command("--url", server.url, "--model", model, str(folder), "--json")

    assert (local.returncode, remote.returncode) == (0, 0), remote.stderr
    ours, theirs = ([json.loads(line) for line in done.stdout.splitlines()] for done in (local, remote))
    assert len(ours) == 6
    assert "cannot be decoded" in ours[-1]["error"] and "cannot be decoded" in theirs[-1]["error"]
    assert theirs[:-1] == ours[:-1]


def test_predict_by_url_draws(server: Any, bundle_paths: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    for name, arguments in (
        ("local", [str(bundle_paths["boxes"])]),
        ("remote", ["--url", server.url, "--model", "boxes"]),
    ):
        assert _command(*arguments, str(folder), "--out", str(tmp_path / name)).returncode == 0
    drawn = sorted(path.name for path in (tmp_path / "local").iterdir())
    assert len(drawn) == 5
    for name in drawn:
        assert (tmp_path / "local" / name).read_bytes() == (tmp_path / "remote" / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        pytest.param(["--url", "localhost"], 2, "expected http://host:8080", id="address"),
        pytest.param(["--url", "http://127.0.0.1:9"], 1, "cannot be reached", id="nobody"),
        pytest.param(["--url", "http://127.0.0.1:9", "--parts", "jsonl"], 2, "--url with --parts", id="batch"),
    ],
)
def test_wrong_use_of_the_url(arguments: list[str], code: int, part: str, folder: Path) -> None:
    done = _command(*arguments, str(folder / "0.png"))
    assert done.returncode == code
    assert part in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_batch_from_the_command_line(bundle_paths: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    arguments = [str(bundle_paths["boxes"]), str(folder), "--out", str(tmp_path / "out"), "--parts", "parquet"]
    first, second = _command(*arguments), _command(*arguments)
    assert "5 pictures of 5 items in 1 part:" in first.stdout
    assert "1 item could not be read" in first.stdout
    assert "1 of them from before" in second.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "batch.json",
        "part-00000.parquet",
        "summary.json",
    ]
    wrong = _command(str(bundle_paths["boxes"]), str(folder), "--parts", "csv", "--out", "x")
    assert wrong.returncode == 2 and "--parts csv" in wrong.stderr
    missing = _command(str(bundle_paths["boxes"]), "s3://bucket/x")
    assert missing.returncode == 2 and "--out is missing" in missing.stderr
