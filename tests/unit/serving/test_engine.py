"""The engine on a real bundle: its answers are those of the predictor, whatever the load, form and protocol."""

import asyncio
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionyard.config.serving_config import ServedModelConfig, ServingConfig
from visionyard.inference import Predictor, prediction_to_json
from visionyard.monitoring.metrics import ServingMetrics
from visionyard.serving import ModelStore
from visionyard.transforms import decode_image

Bundles = Callable[[str], tuple[Path, Path]]


def picture(seed: int = 0, form: str = "PNG") -> bytes:
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 150, (80, 96, 1)).repeat(3, axis=2).astype(np.uint8)
    x, y = int(rng.integers(8, 70)), int(rng.integers(8, 48))
    image[y : y + 16, x : x + 16] = ((30, 40, 220), (220, 40, 30))[seed % 2]
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("task", ["classification", "detection"])
def test_answers_are_those_of_the_predictor(tiny_bundle: Bundles, task: str) -> None:
    folder, _ = tiny_bundle(task)
    images = [picture(seed) for seed in range(16)]

    async def serve() -> list[dict]:
        store = ModelStore(ServingConfig(), ServingMetrics())
        model = await store.load(ServedModelConfig(path=str(folder)))
        assert model.is_ready
        assert store.is_ready
        answers = await asyncio.gather(*(model.predict([image]) for image in images))
        together = await model.predict(images)
        values = [answer.to_json(model.classes) for (answer,) in answers]
        assert values == [answer.to_json(model.classes) for answer in together]
        await store.close()
        return values

    values = asyncio.run(serve())
    with Predictor.from_bundle(folder) as predictor:
        for image, value in zip(images, values, strict=True):
            pixels = decode_image(image)
            expected = prediction_to_json(predictor.predict([pixels])[0], predictor.classes)
            assert value == {"width": 96, "height": 80, **expected}
