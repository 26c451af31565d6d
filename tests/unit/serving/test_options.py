"""Parameters of a request: taken within the limits, every mistake named."""

import pytest

from visionyard.config.serving_config import LimitsConfig
from visionyard.errors import RequestError
from visionyard.serving.options import PredictOptions

LIMITS = LimitsConfig(min_confidence=0.05, max_top_k=10, max_detections=300)


@pytest.mark.parametrize(
    ("values", "options"),
    [
        pytest.param({}, PredictOptions(), id="none"),
        pytest.param({"confidence": 0.5}, PredictOptions(confidence=0.5), id="number"),
        pytest.param({"confidence": "0.5", "top_k": "3"}, PredictOptions(confidence=0.5, top_k=3), id="text"),
        pytest.param({"confidence": None, "iou": ""}, PredictOptions(), id="not given"),
        pytest.param({"confidence": 0.05, "iou": 1}, PredictOptions(confidence=0.05, iou=1.0), id="borders"),
        pytest.param({"masks": "polygons"}, PredictOptions(masks="polygons"), id="form of masks"),
        pytest.param({"masks": "", "top_k": 2}, PredictOptions(top_k=2), id="no form of masks"),
        pytest.param({"max_detections": 300.0}, PredictOptions(max_detections=300), id="whole float"),
    ],
)
def test_values_within_the_limits(values: dict, options: PredictOptions) -> None:
    found = PredictOptions.from_values(values, LIMITS)
    assert found == options
    assert found.top_k is None or type(found.top_k) is int


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"confidence": 0.01}, r"confidence = 0\.01: expected a number from 0\.05 to 1$", id="too low"),
        pytest.param({"confidence": 1.1}, r"confidence = 1\.1: expected a number from 0\.05 to 1$", id="too high"),
        pytest.param({"iou": 0}, "iou = 0: expected a number above 0, at most 1$", id="open border"),
        pytest.param({"iou": float("nan")}, "iou = nan: expected", id="not a number"),
        pytest.param({"iou": "inf"}, "iou = 'inf': expected", id="infinite"),
        pytest.param({"top_k": 2.5}, r"top_k = 2\.5: expected a whole number from 1 to 10$", id="fraction"),
        pytest.param({"top_k": 11}, "top_k = 11: expected a whole number from 1 to 10$", id="above the limit"),
        pytest.param({"top_k": "1e400"}, "top_k = '1e400': expected", id="overflow"),
        pytest.param({"top_k": True}, "top_k = True: expected", id="flag"),
        pytest.param({"max_detections": [1]}, r"max_detections = \[1\]: expected", id="list"),
        pytest.param({"max_detections": "9" * 5000}, "max_detections = '9999", id="long text"),
        pytest.param({"masks": "png"}, "masks = 'png': expected one of rle, polygons, none$", id="form of masks"),
        pytest.param({"masks": ["rle"]}, r"masks = \['rle'\]: expected one of", id="list of forms"),
        pytest.param({"confidnce": 1}, "'confidnce': unknown; known: confidence, iou, max_det", id="name"),
    ],
)
def test_mistakes_name_key_value_and_range(values: dict, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        PredictOptions.from_values(values, LIMITS)
    assert len(str(caught.value)) < 300


def test_all_mistakes_at_once() -> None:
    with pytest.raises(RequestError, match=r"iou = 2: .*; parameter 'x': unknown"):
        PredictOptions.from_values({"iou": 2, "x": 1}, LIMITS)
