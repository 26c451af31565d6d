"""The models of a server: refused bundles, replacing without a gap, unloading, readiness."""

import asyncio
import json
import shutil
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionyard import storage
from visionyard.config.serving_config import ServedModelConfig, ServingConfig
from visionyard.errors import (
    ArtifactError,
    ConfigError,
    ModelError,
    NotFoundError,
    OverloadedError,
    ShapeError,
    StorageError,
)
from visionyard.inference.onnx_backend import OnnxBackend
from visionyard.monitoring.metrics import ServingMetrics
from visionyard.serving import ModelStore

Bundles = Callable[[str], tuple[Path, Path]]
IMAGE = np.full((40, 50, 3), 90, np.uint8)
WAIT_S = 20.0


def run(work: Callable[[ModelStore], Awaitable[Any]], **sections: Any) -> Any:
    async def whole() -> Any:
        store = ModelStore(ServingConfig(**{"drift": {"enabled": False}, **sections}), ServingMetrics())
        try:
            return await asyncio.wait_for(work(store), WAIT_S)
        finally:
            await store.close()

    return asyncio.run(whole())


def a_model(path: Path | str, **values: Any) -> ServedModelConfig:
    return ServedModelConfig(path=str(path), **values)


def _alter(folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def _other_version(folder: Path) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))


@pytest.mark.parametrize(
    ("spoil", "values", "error", "message"),
    [
        pytest.param(_alter, {}, ArtifactError, r"model\.onnx: expected SHA-256 .*altered", id="altered"),
        pytest.param(lambda f: (f / "model.onnx").unlink(), {}, ArtifactError, "file is missing", id="incomplete"),
        pytest.param(_other_version, {}, ArtifactError, "schema_version 99 is not known", id="version"),
        pytest.param(shutil.rmtree, {}, ArtifactError, "expected a model bundle", id="no bundle"),
        pytest.param(lambda f: None, {"format": "onnx-int8"}, ConfigError, "onnx-int8", id="format it lacks"),
        pytest.param(lambda f: None, {"device": "cuda"}, ConfigError, "cuda", id="device that is not there"),
    ],
)
def test_what_is_refused_leaves_the_server_as_it_was(
    tiny_bundle: Bundles, tmp_path: Path, spoil: Callable, values: dict, error: type, message: str
) -> None:
    folder = shutil.copytree(tiny_bundle("classification")[0], tmp_path / "bundle")
    good = shutil.copytree(folder, tmp_path / "good")
    spoil(folder)

    async def work(store: ModelStore) -> None:
        await store.load(a_model(good, name="toy"))
        with pytest.raises(error, match=message):
            await store.load(a_model(folder, name="toy", **values))
        assert store.is_ready
        assert len(await store.get("toy").predict([IMAGE])) == 1

    run(work)


def test_a_name_that_no_url_can_hold(tiny_bundle: Bundles, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bundle("classification")[0], tmp_path / "bundle")
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": "../admin"}))

    async def work(store: ModelStore) -> None:
        with pytest.raises(ConfigError, match=r"name '\.\./admin' does not fit into a URL; give models\.name"):
            await store.load(a_model(folder))
        assert (await store.load(a_model(folder, name="fine"))).name == "fine"

    run(work)


def test_a_model_that_fails_its_warm_up_is_not_served(tiny_bundle: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()

    async def work(store: ModelStore) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(OnnxBackend, "run_all", lambda self, batch: [np.zeros((len(batch), 7), np.float32)])
            with pytest.raises(ShapeError, match=r"\(1, 7\)"):
                await store.load(a_model(tiny_bundle("classification")[0], name="toy"))
        assert store.names() == []
        with pytest.raises(NotFoundError, match="'toy': not served here; served: none"):
            store.get("toy")

    run(work)
    assert threading.active_count() <= before, "its threads ended"


def test_ready_only_once_every_model_of_the_config_is_warm(tiny_bundle: Bundles) -> None:
    models = [a_model(tiny_bundle("classification")[0], name="a"), a_model(tiny_bundle("detection")[0], name="b")]

    async def work(store: ModelStore) -> None:
        assert not store.is_ready
        await store.load(models[0])
        assert not store.is_ready
        await store.load(models[1])
        assert store.is_ready
        assert store.names() == ["a", "b"]
        await store.unload("a")
        assert store.is_ready, "what was unloaded on purpose is not waited for"
        await store.close()
        assert not store.is_ready
        with pytest.raises(OverloadedError, match="stopping"):
            await store.load(models[0])

    run(work, models=models)


def test_unloading_finishes_what_is_in_flight_and_refuses_what_comes(
    tiny_bundle: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, started = threading.Event(), threading.Event()
    gate.set()
    plain = OnnxBackend.run_all

    def run_all(backend: OnnxBackend, batch: np.ndarray) -> list[np.ndarray]:
        started.set()
        assert gate.wait(WAIT_S)
        return plain(backend, batch)

    monkeypatch.setattr(OnnxBackend, "run_all", run_all)

    async def work(store: ModelStore) -> None:
        model = await store.load(a_model(tiny_bundle("classification")[0], name="toy"))
        gate.clear()
        started.clear()
        in_flight = [asyncio.create_task(model.predict([IMAGE])) for _ in range(6)]
        assert await asyncio.to_thread(started.wait, WAIT_S)
        unloading = asyncio.create_task(store.unload("toy"))
        while store.names():
            await asyncio.sleep(0)
        while model.is_ready:
            await asyncio.sleep(0)
        with pytest.raises(NotFoundError):
            store.get("toy")
        while True:  # the closing begins in another thread
            try:
                in_flight.append(asyncio.create_task(model.predict([IMAGE])))
                await asyncio.sleep(0.001)
                if in_flight[-1].done():
                    with pytest.raises(OverloadedError, match="being unloaded"):
                        await in_flight.pop()
                    break
            finally:
                assert not unloading.done()
        gate.set()
        answers = await asyncio.gather(*in_flight)
        await unloading
        assert all(len(answer) == 1 for answer in answers)
        with pytest.raises(NotFoundError, match="'toy': not served"):
            await store.unload("toy")
        assert list(store.known()) == ["toy"]
        await store.load(store.known()["toy"])
        assert store.names() == ["toy"]

    run(work)


def test_replacing_a_model_leaves_no_gap(tiny_bundle: Bundles) -> None:
    async def work(store: ModelStore) -> None:
        old = await store.load(a_model(tiny_bundle("classification")[0], name="toy"))
        asked = True

        async def ask() -> int:
            count = 0
            while asked:
                await store.get("toy").predict([IMAGE])
                count += 1
            return count

        asking = asyncio.create_task(ask())
        new = await store.load(a_model(tiny_bundle("detection")[0], name="toy"))
        asked = False
        assert await asking > 0
        assert store.get("toy") is new
        assert new.is_ready
        assert not old.is_ready
        assert store.is_ready
        assert b"in_flight" in store._metrics.exposition()

    run(work)


def test_a_bundle_of_an_object_store_is_fetched_verified_and_kept(
    tiny_bundle: Bundles, tmp_path: Path, s3: str
) -> None:
    storage.upload_folder(tiny_bundle("classification")[0], f"{s3}/bundles/toy")
    kept = tmp_path / "kept"

    async def serve(store: ModelStore) -> None:
        served = await store.load(a_model(f"{s3}/bundles/toy", name="toy"))
        assert len(await served.predict([IMAGE])) == 1
        with pytest.raises(StorageError, match="expected files there"):
            await store.load(a_model(f"{s3}/missing", name="other"))

    run(serve, server={"bundle_folder": str(kept)})
    (model_file,) = kept.glob("*/model.onnx")
    written_at = model_file.stat().st_mtime_ns
    run(serve, server={"bundle_folder": str(kept)})
    assert model_file.stat().st_mtime_ns == written_at, "what is there already is not fetched again"
    run(serve)
    assert [path.parent.parent for path in tmp_path.rglob("model.json")] == [kept], "elsewhere nothing stays"

    storage.write_bytes(f"{s3}/bundles/toy/model.onnx", b"altered")

    async def refuse(store: ModelStore) -> None:
        with pytest.raises(ArtifactError, match=r"model\.onnx: expected"):
            await store.load(a_model(f"{s3}/bundles/toy", name="toy"))

    run(refuse, server={"bundle_folder": str(kept)})


def test_a_model_that_does_not_load_at_all(tiny_bundle: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: OnnxBackend, *args: object, **kwargs: object) -> None:
        raise ModelError("cannot")

    monkeypatch.setattr(OnnxBackend, "__init__", fail)

    async def work(store: ModelStore) -> None:
        with pytest.raises(ModelError, match="cannot"):
            await store.load(a_model(tiny_bundle("classification")[0]))

    run(work)
