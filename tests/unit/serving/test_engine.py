"""The engine on real bundles: answers are the predictor's, whatever the load and form; nothing outlives its request."""

import asyncio
import gc
import io
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from visionyard.config.serving_config import ServedModelConfig, ServingConfig
from visionyard.errors import DeadlineError, OverloadedError, RequestError, TooLargeError
from visionyard.inference import Predictor, prediction_to_json
from visionyard.inference.onnx_backend import OnnxBackend
from visionyard.monitoring.metrics import ServingMetrics
from visionyard.serving import ModelStore, PredictOptions, RequestContext, ServedModel
from visionyard.serving.answers import ImageAnswer
from visionyard.serving.image_work import ImageWork, PixelBudget, Prepared
from visionyard.transforms import decode_image

Bundles = Callable[[str], tuple[Path, Path]]
WAIT_S = 20.0


def picture(seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 150, (80, 96, 1)).repeat(3, axis=2).astype(np.uint8)
    x, y = int(rng.integers(8, 70)), int(rng.integers(8, 48))
    image[y : y + 16, x : x + 16] = ((30, 40, 220), (220, 40, 30))[seed % 2]
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@asynccontextmanager
async def serving(folder: Path | str, **sections: Any) -> AsyncIterator[tuple[ModelStore, ServedModel]]:
    """A store with one model, one inference at a time; drift is not watched unless a test asks for it."""
    config = ServingConfig(**{"drift": {"enabled": False}, **sections})
    store = ModelStore(config, ServingMetrics())
    try:
        yield store, await store.load(ServedModelConfig(path=str(folder), name="toy", instances=1))
    finally:
        await store.close()


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(work(), WAIT_S))  # type: ignore[arg-type]


def series(model: ServedModel) -> dict[str, float]:
    """The figures of a model by name, with the phase, error or result behind it."""
    families = text_string_to_metric_families(model._metrics.exposition().decode())
    return {
        "/".join([sample.name.removeprefix("visionyard_serving_"), *_others(sample.labels)]): sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("model") == "toy"
    }


async def nothing_left(model: ServedModel) -> None:
    """Wait until no image is in work: what was dropped ends in its own thread. `run` ends a wait that is in vain."""
    while (found := series(model))["in_flight"] or found["queue_depth"]:
        await asyncio.sleep(0.001)


def _others(labels: dict[str, str]) -> list[str]:
    return [value for name, value in sorted(labels.items()) if name != "model"]


class Held:
    """Holds the model back once a test says so, which then decides what happens meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Semaphore(0)
        self.sizes: list[int] = []
        self.is_failing = False
        plain = OnnxBackend.run_all

        def run_all(backend: OnnxBackend, batch: np.ndarray) -> list[np.ndarray]:
            if self.is_failing:
                raise MemoryError("no room")
            self.sizes.append(len(batch))
            self.started.release()
            assert self.gate.wait(WAIT_S)
            return plain(backend, batch)

        monkeypatch.setattr(OnnxBackend, "run_all", run_all)

    def hold(self) -> None:
        """Let the next inferences begin and not end, until the gate opens."""
        self.gate.clear()
        self.sizes.clear()
        while self.started.acquire(blocking=False):
            pass

    async def wait(self, count: int = 1) -> None:
        for _ in range(count):
            assert await asyncio.to_thread(self.started.acquire, timeout=WAIT_S)


@pytest.mark.parametrize("task", ["classification", "detection"])
@pytest.mark.parametrize("max_size", [1, 8])
def test_answers_are_those_of_the_predictor_alone_and_together(tiny_bundle: Bundles, task: str, max_size: int) -> None:
    folder, _ = tiny_bundle(task)
    images = [picture(seed) for seed in range(16)]

    async def work() -> list[list[dict]]:
        async with serving(folder, batching={"max_size": max_size, "max_delay_ms": 5}) as (store, model):
            assert model.is_ready
            assert store.is_ready
            one_by_one = [(await model.predict([image]))[0] for image in images]
            crowd = [answer for (answer,) in await asyncio.gather(*(model.predict([image]) for image in images))]
            together = await model.predict(images)
            pixels = await model.predict([decode_image(image) for image in images])
            return [[each.to_json(model.classes) for each in found] for found in (one_by_one, crowd, together, pixels)]

    with Predictor.from_bundle(folder) as predictor:
        for image, *values in zip(images, *run(work), strict=True):
            expected = prediction_to_json(predictor.predict([decode_image(image)])[0], predictor.classes)
            assert json.loads(json.dumps(values[0])) == {"width": 96, "height": 80, **expected}
            for value in values[1:]:
                assert_close(value, values[0])


def assert_close(value: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert value.keys() == expected.keys()
        for key in expected:
            assert_close(value[key], expected[key])
    elif isinstance(expected, list):
        assert len(value) == len(expected)
        for one, other in zip(value, expected, strict=True):
            assert_close(one, other)
    else:
        assert value == (pytest.approx(expected, abs=1e-4) if isinstance(expected, float) else expected)


def test_options_reach_the_postprocessing(tiny_bundle: Bundles) -> None:
    async def detect() -> None:
        async with serving(tiny_bundle("detection")[0]) as (_, model):
            (plain,) = await model.predict([picture()])
            (few,) = await model.predict([picture()], options=PredictOptions(max_detections=1))
            (none,) = await model.predict([picture()], options=PredictOptions(confidence=1.0))
            (all_of_them,) = await model.predict([picture()], options=PredictOptions(iou=1.0))
            assert len(few.prediction) == 1
            assert len(none.prediction) == 0
            assert len(all_of_them.prediction) > len(plain.prediction) >= 1

    async def classify() -> None:
        async with serving(tiny_bundle("classification")[0]) as (_, model):
            (answer,) = await model.predict([picture()], options=PredictOptions(top_k=1))
            assert len(answer.to_json(model.classes)["top"]) == 1
            assert len(answer.to_json(model.classes, top_k=2)["top"]) == 2

    run(detect)
    run(classify)


def test_raw_tensors_share_the_batcher(tiny_bundle: Bundles) -> None:
    folder, _ = tiny_bundle("classification")
    images = [decode_image(picture(seed)) for seed in range(5)]

    async def work() -> None:
        async with serving(folder, batching={"max_size": 2}) as (_, model):
            rows, _ = model.manifest.preprocessing.apply_all(images)
            (found,) = await model.infer(rows)
            with Predictor.from_bundle(folder) as predictor:
                assert np.allclose(found, predictor.backend.run_all(rows)[0], atol=1e-5)
            assert series(model)["batch_size_sum"] == 1 + 5  # the warm-up and the rows
            with pytest.raises(RequestError, match=r"expected float32 of shape \(N, 3, 32, 32\), got \(3, 32, 32\)"):
                await model.infer(rows[0])
            with pytest.raises(RequestError, match="holds NaN"):
                await model.infer(np.full_like(rows, np.nan))
            with pytest.raises(TooLargeError, match="holds 17 rows; at most 16"):
                await model.infer(np.zeros((17, *rows.shape[1:]), np.float32))

    run(work)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        pytest.param([], RequestError, "holds no image", id="none"),
        pytest.param([b"x"] * 17, TooLargeError, "holds 17 images; at most 16 are taken", id="too many"),
        pytest.param([picture(), b"nonsense"], RequestError, "image 1: not an image", id="second is none"),
        pytest.param([np.zeros((4, 4), np.uint8)], RequestError, r"image 0: expected pixels", id="no pixels"),
    ],
)
def test_the_callers_mistakes(tiny_bundle: Bundles, images: list, error: type, message: str) -> None:
    async def work() -> None:
        async with serving(tiny_bundle("classification")[0]) as (_, model):
            with pytest.raises(error, match=message):
                await model.predict(images)
            await model.predict([picture()])
            await nothing_left(model)

    run(work)


def test_over_the_bound_requests_are_refused_before_they_are_decoded(
    tiny_bundle: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)

    async def work() -> None:
        async with serving(
            tiny_bundle("classification")[0],
            batching={"queue_size": 4, "max_size": 2},
            limits={"max_images": 4},
        ) as (_, model):
            held.hold()
            admitted = [asyncio.create_task(model.predict([picture(seed)])) for seed in range(4)]
            await held.wait()
            assert series(model)["in_flight"] == 4
            with pytest.raises(OverloadedError, match="4 images in work, at most 4") as caught:
                await model.predict([b"not even an image"])
            assert caught.value.retry_after_s > 0
            held.gate.set()
            await asyncio.gather(*admitted)
            assert len(await model.predict([picture()] * 4)) == 4
            await nothing_left(model)

    run(work)


def test_a_deadline_ends_the_wait_and_what_has_not_begun(tiny_bundle: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)

    async def work() -> None:
        async with serving(tiny_bundle("classification")[0]) as (_, model):
            held.hold()
            busy = asyncio.create_task(model.predict([picture()]))
            await held.wait()
            with pytest.raises(DeadlineError, match="not ready by the request's deadline"):
                await model.predict([picture(5)], deadline=time.monotonic() + 0.05)
            held.gate.set()
            await busy
            with pytest.raises(DeadlineError):
                await model.predict([picture()], deadline=time.monotonic() - 1)
            await model.predict([picture()])
            assert sum(held.sizes) == 2, "the late image was never run"
            await nothing_left(model)

    run(work)


def test_a_caller_that_hangs_up_leaves_nothing_behind(tiny_bundle: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)

    async def work() -> None:
        async with serving(tiny_bundle("classification")[0], batching={"max_size": 1}) as (_, model):
            held.hold()
            busy = asyncio.create_task(model.predict([picture()] * 2))
            await held.wait()
            gone = [asyncio.create_task(model.predict([picture(seed)])) for seed in range(5)]
            await asyncio.sleep(0)
            for task in gone:
                task.cancel()
            for task in gone:
                with pytest.raises(asyncio.CancelledError):
                    await task
            held.gate.set()
            await busy
            await model.predict([picture()])
            assert sum(held.sizes) == 3
            await nothing_left(model)

    run(work)


def test_a_failing_model_is_the_servers_fault_and_ends_no_thread(
    tiny_bundle: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)

    async def work() -> None:
        async with serving(tiny_bundle("classification")[0]) as (_, model):
            held.is_failing = True
            with pytest.raises(MemoryError, match="no room"):
                await model.predict([picture()] * 3)
            held.is_failing = False
            await model.predict([picture()])
            await nothing_left(model)

    run(work)


def test_images_are_returned_when_asked_for_even_without_room(
    tiny_bundle: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with serving(tiny_bundle("detection")[0]) as (_, model):
            (plain,) = await model.predict([picture()])
            (kept,) = await model.predict([picture()], keep_images=True)
            monkeypatch.setattr(PixelBudget, "take", lambda self, image: False)
            (again,) = await model.predict([picture()], keep_images=True)
            assert plain.image is None
            assert np.array_equal(kept.image, decode_image(picture()))
            assert np.array_equal(again.image, kept.image)

    run(work)


def test_pixels_count_as_long_as_they_exist() -> None:
    budget = PixelBudget(1000)
    first, second = np.zeros((10, 20, 3), np.uint8), np.zeros((10, 10, 3), np.uint8)
    assert budget.take(first)
    assert budget.take(second)
    third = np.zeros((10, 10, 3), np.uint8)
    assert not budget.take(third)
    assert budget.used_bytes == 900
    del first
    assert budget.used_bytes == 300
    assert budget.take(third)


def test_the_cache_answers_without_the_model(tiny_bundle: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with serving(tiny_bundle("detection")[0], cache={"max_mib": 1}) as (_, model):
            (first,) = await model.predict([picture()])
            key = model._work._cache.key(picture(), model.digest, PredictOptions())
            while model._work._cache.get(key) is None:  # it is kept after the answer is out
                await asyncio.sleep(0.001)
            before = series(model)
            (second,) = await model.predict([bytearray(picture())])
            (third,) = await model.predict([picture()], options=PredictOptions(confidence=0.9))
            after = series(model)
            assert second.to_json(model.classes) == first.to_json(model.classes)
            assert len(third.prediction) <= len(first.prediction)
            assert after["batch_size_count"] - before["batch_size_count"] == 1, "the third asked for something else"
            assert (after["cache_lookups_total/hit"], after["cache_lookups_total/miss"]) == (1, 2)

    run(work)


def test_every_phase_is_timed(tiny_bundle: Bundles) -> None:
    async def work() -> None:
        async with serving(tiny_bundle("classification")[0]) as (_, model):
            await model.predict([picture()] * 3)
            found = series(model)
            counts = {"decode": 3, "preprocess": 3, "queue": 4, "infer": 4, "postprocess": 3}  # with the warm-up
            for phase, count in counts.items():
                assert found[f"phase_seconds_count/{phase}"] == count, phase
                assert 0 <= found[f"phase_seconds_sum/{phase}"] < WAIT_S
            assert found[f"model_info/cpu/{model.digest}/onnx"] == 1

    run(work)


def test_drift_sees_what_was_answered(tiny_bundle: Bundles) -> None:
    async def work() -> None:
        async with serving(tiny_bundle("detection")[0], drift={"enabled": True, "max_cpu_share": 1.0}) as (_, model):
            for seed in range(3):
                await model.predict([picture(seed)], context=RequestContext(group="camera-1"))
            while model.drift_report().observed_count < 3:  # it looks after the answer is out
                await asyncio.sleep(0.001)
            assert model.drift_report().observed_count == 3

    run(work)


def test_samples_are_kept_with_their_file(tiny_bundle: Bundles, tmp_path: Path) -> None:
    async def work() -> None:
        sampling = {"uri": str(tmp_path / "samples"), "rate": 1.0, "hard_rate": 1.0}
        async with serving(tiny_bundle("classification")[0], sampling=sampling) as (_, model):
            await model.predict([picture(1)], context=RequestContext(group="camera-1"))
        names = [path.name for path in (tmp_path / "samples").rglob("*") if path.is_file()]
        assert names

    run(work)


def test_what_was_answered_last_is_sampled_though_the_model_closes(
    tiny_bundle: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember = ImageWork.remember

    def slowly(work: ImageWork, prepared: Prepared, answer: ImageAnswer) -> None:
        time.sleep(0.3)
        remember(work, prepared, answer)

    monkeypatch.setattr(ImageWork, "remember", slowly)
    test_samples_are_kept_with_their_file(tiny_bundle, tmp_path)


def test_nothing_of_a_request_stays_in_memory(tiny_bundle: Bundles) -> None:
    async def work() -> None:
        async with serving(tiny_bundle("detection")[0]) as (_, model):
            gc.disable()  # what is freed only when rings of references are looked for would pile up under load
            try:
                answers = await model.predict([picture(seed) for seed in range(4)], keep_images=True)
                assert model._work._pixels.used_bytes == 4 * 80 * 96 * 3
                del answers
                while model._work._pixels.used_bytes:
                    await asyncio.sleep(0.001)
            finally:
                gc.enable()

    run(work)
