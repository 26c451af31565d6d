"""What plugins say of themselves, and that inference by our specs is inference as their makers do it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from visionyard.config import ModelConfig, TrainingConfig
from visionyard.errors import ConfigError, ModelError
from visionyard.inference import Predictor
from visionyard.models import get_plugin, plugin_names
from visionyard.training import make_plan


def _plan(name: str, preset: str = "", size: int = 64):
    model = ModelConfig(name=name, preset=preset)
    return make_plan(model, TrainingConfig(image_size_px=size), task=None, classes=["a", "b", "c"])


def _picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_the_plugins_are_there():
    known = {"tabular-classification", "torchvision-classification", "yolo-classification", "yolo-detection"}
    assert known <= set(plugin_names())


def test_an_unknown_plugin_is_refused_with_the_names_there_are():
    with pytest.raises(ConfigError, match=r"'yolo': no such plugin; known:.*yolo-detection"):
        get_plugin("yolo")


OF_IMAGES = [name for name in plugin_names() if not get_plugin(name).info.task.startswith("table_")]


@pytest.mark.parametrize("name", OF_IMAGES)
def test_every_preset_builds_and_infers(name: str):
    plugin = get_plugin(name)
    for preset in plugin.info.presets:
        plan = _plan(name, preset)
        trained = plugin.load(plan, plugin.build(plan).state_dict())
        tensor, placement = trained.preprocessing.apply(_picture(40, 90))
        with torch.inference_mode():
            output = trained.module(torch.from_numpy(tensor[None]))
        assert len(trained.postprocessing.apply([output.numpy()], [placement])) == 1


def test_weights_that_do_not_fit_a_plan_are_refused():
    plugin = get_plugin("torchvision-classification")
    with pytest.raises(ModelError, match="does not fit torchvision-classification resnet18"):
        plugin.load(_plan(plugin.info.name, "resnet18"), {"conv1.weight": torch.zeros(1)})


def test_a_model_file_of_the_user_is_a_preset(tmp_path: Path):
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "nc: 80\ndepth_multiple: 1.0\nwidth_multiple: 0.25\n"
        "backbone:\n  - [-1, 1, Conv, [32, 3, 2]]\n  - [-1, 1, Conv, [64, 3, 2]]\n  - [-1, 1, Conv, [64, 3, 2]]\n"
        "head:\n  - [[2], 1, Detect, [nc]]\n"
    )
    plugin = get_plugin("yolo-detection")
    plan = _plan("yolo-detection", str(path))
    path.unlink()
    assert plan.architecture["head"]
    assert sum(value.numel() for value in plugin.build(plan).parameters()) < 200_000


@pytest.mark.parametrize(
    ("preset", "match"),
    [("yolo99n", "'yolo99n': neither a preset"), ("yolo11n.pt", "weights belong in model.weights")],
    ids=["unknown", "weights"],
)
def test_a_preset_that_is_none_is_refused(preset: str, match: str):
    with pytest.raises(ConfigError, match=match):
        get_plugin("yolo-detection").preset(preset)


@pytest.mark.parametrize("size_hw", [(64, 64), (40, 90), (97, 33), (8, 8)], ids=str)
def test_detections_are_those_of_ultralytics(size_hw: tuple[int, int]):
    from visionyard.models.yolo.environment import load_ultralytics

    plugin = get_plugin("yolo-detection")
    plan = _plan("yolo-detection", "yolov8n", size=160)
    torch.manual_seed(0)
    state = plugin.build(plan).state_dict()
    image = _picture(*size_hw)
    ours = Predictor.from_model(plugin.load(plan, state)).predict([image], confidence_threshold=0.001)[0]

    theirs = load_ultralytics().YOLO("yolov8n.yaml")
    theirs.model = plugin.build(plan)
    theirs.model.load_state_dict(state)
    theirs.model.names = dict(enumerate(plan.classes))
    found = theirs.predict(
        image[..., ::-1], imgsz=160, rect=False, conf=0.001, iou=0.7, max_det=300, device="cpu", verbose=False
    )[0].boxes
    assert len(ours) == len(found) > 0
    np.testing.assert_allclose(ours.confidence, found.conf.numpy(), atol=1e-5)
    np.testing.assert_allclose(ours.xyxy, found.xyxy.numpy(), atol=0.01)


def test_nothing_of_ultralytics_reaches_outside(monkeypatch: pytest.MonkeyPatch):
    from visionyard.models.yolo.environment import load_ultralytics

    utils = load_ultralytics("ultralytics.utils")
    assert not utils.ONLINE
    assert not utils.SETTINGS["sync"]
    assert not utils.SETTINGS["mlflow"]
    assert utils.AUTOINSTALL is False
    assert str(Path.home()) not in str(utils.USER_CONFIG_DIR)
