"""The commented run.yaml loads back to the defaults and tells about every key."""

from pathlib import Path

import pytest
import yaml

from visionyard.config import RunConfig, field_names, load_run_config
from visionyard.config.loading import field_of
from visionyard.config.template import template_text, write_template
from visionyard.errors import ConfigError


@pytest.mark.parametrize("source", ["data", "a: b # c", "s3://bucket/prefix", "no", "007", "Bücher/Ä"])
def test_it_loads_back_to_the_defaults(tmp_path: Path, source: str) -> None:
    path = tmp_path / "new" / "run.yaml"
    write_template(path, source=source)
    assert load_run_config(path, environment={}) == RunConfig(data={"source": source})


def test_every_key_stands_there_below_its_description() -> None:
    text = template_text("run.yaml", source="data")
    values = yaml.safe_load(text)
    unwrapped = " ".join(line.strip().removeprefix("# ") for line in text.splitlines())
    for dotted in field_names(RunConfig):
        place = values
        for part in dotted.split("."):
            place = place[part]
        assert field_of(RunConfig, dotted).description in unwrapped, dotted


@pytest.mark.parametrize(
    "line",
    [
        "  # Passes over the training split. (1 or more; default 20)",
        "  # Frames kept per second of video, by presentation time. (above 0, at most 240; default 2.0)",
        "  # JPEG quality of the kept frames; 95 is near lossless. (from 50 to 100; default 95)",
        "  # onnx, torchscript, onnx-fp16, onnx-int8, openvino; default [onnx, torchscript])",
        "  # Images per call. (1 or more entries; default [1, 8])",
        "  # Share of the items for validation while training. (above 0, below 0.9; default 0.15)",
        "  # fp16 or bf16 halve memory on GPUs; no is exact. (one of no, fp16, bf16; default 'no')",
        "# Where the data is and how it is divided.",
        "#   visionyard run my.yaml --set training.epochs=3    # another value for this run only",
    ],
)
def test_comments_state_range_and_default(line: str) -> None:
    assert line in template_text("my.yaml", source="data").splitlines()


def test_lines_fit_a_screen() -> None:
    assert max(len(line) for line in template_text("run.yaml", source="data").splitlines()) <= 100


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("mine")
    with pytest.raises(ConfigError, match=r"run\.yaml: exists already and is kept"):
        write_template(path)
    assert path.read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.yaml"]
