import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionyard.errors import ConfigError, DataError, SplitError


def _write(folder: Path, *, copied: bool) -> Path:
    """Write class folders below splits, 12 images of their own in each; with `copied` one of train stands in test."""
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for number in range(12):
            path = folder / split / ("cat", "dog")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(random.integers(0, 255, (12, 16, 3)).astype(np.uint8))
            coarse.resize((320, 240), Image.Resampling.BICUBIC).save(path)
    if copied:
        shutil.copy(folder / "train/cat/0.png", folder / "test/cat/copy.png")
    return folder


def test_a_copied_image_makes_the_split_leaky(dataset_command: Any, tmp_path: Path):
    done = dataset_command("audit", _write(tmp_path / "data", copied=True))
    assert done.exit_code == 1
    assert "the split leaks" in done.stdout and "identical image" in done.stdout
    values = json.loads(dataset_command("audit", tmp_path / "data", "--json").stdout)
    assert values["leaky"] is True
    pair = values["pairs"][0]
    assert {pair["first"]["source"], pair["second"]["source"]} == {"train/cat/0.png", "test/cat/copy.png"}
    assert "groups" in values and values["certificate"]["identical_images"] == 1


def test_images_of_their_own_do_not_leak(dataset_command: Any, tmp_path: Path):
    done = dataset_command("audit", _write(tmp_path / "data", copied=False))
    assert done.exit_code == 0
    assert "no leak found" in done.stdout


def test_a_file_of_splits_is_audited_before_it_is_used(dataset_command: Any, tmp_path: Path):
    data = _write(tmp_path / "data", copied=True)
    file = tmp_path / "splits.csv"
    file.write_text("name,split\ntest/cat/copy.png,train\n")
    assert dataset_command("audit", data, "--split-file", file).exit_code == 0
    file.write_text("name,split\ntest/cat/copy.png,val\n")
    values = json.loads(dataset_command("audit", data, "--split-file", file, "--json").stdout)
    assert values["leaky"] is True
    assert {values["pairs"][0][side]["split"] for side in ("first", "second")} == {"train", "val"}
    file.write_text("name,split\ntest/cat/99.png,val\n")
    with pytest.raises(SplitError, match=r"line 2: test/cat/99\.png"):
        dataset_command("audit", data, "--split-file", file)


def test_the_splits_of_a_version_can_be_tried_otherwise(dataset_command: Any, tiny_dataset: Any, tmp_path: Path):
    file = tmp_path / "splits.csv"
    file.write_text("name,split\ntrain000,test\n")
    version = tiny_dataset("classification")
    before, after = (
        json.loads(dataset_command("audit", version, *options, "--json").stdout)["certificate"]
        for options in ((), ("--split-file", file))
    )
    assert after["held_out_items"] == before["held_out_items"] + 1


def test_the_splits_of_a_version_are_written_as_a_file_that_can_be_given(
    dataset_command: Any, tiny_dataset: Any, tmp_path: Path
):
    version, file = tiny_dataset("classification"), tmp_path / "kept" / "splits.csv"
    assert "wrote" in dataset_command("splits", version, "--out", file).stdout
    assert file.read_text().startswith("name,split\n")
    audits = [
        json.loads(dataset_command("audit", version, *options, "--json").stdout)
        for options in ((), ("--split-file", file))
    ]
    assert audits[0] == audits[1]
    with pytest.raises(ConfigError, match="it exists already"):
        dataset_command("splits", version, "--out", file)


def test_a_version_is_audited_anew(dataset_command: Any, tiny_dataset: Any):
    values = json.loads(dataset_command("audit", tiny_dataset("classification"), "--json").stdout)
    assert values["certificate"]["identical_images"] == 0


def test_the_published_split_of_six_videos_leaks(dataset_command: Any, shared_data: Callable[[str], Path]):
    videos = ("--group-pattern", r"images/(.+_mp4)-")
    done = dataset_command("audit", shared_data("cones-and-cubes"), "--json", *videos)
    values = json.loads(done.stdout)
    assert (done.exit_code, values["leaky"]) == (1, True)
    assert values["certificate"]["group_overlap"] == 6
    assert values["certificate"]["near_duplicate_items"] > 100


def test_what_a_version_has_itself_is_not_passed_over(dataset_command: Any, tiny_dataset: Any):
    with pytest.raises(ConfigError, match=r"--group-pattern \(a\): .* is a dataset version, which has its groups"):
        dataset_command("audit", tiny_dataset("classification"), "--group-pattern", "(a)")


@pytest.mark.parametrize("budget", ["-0.1", "1.5"])
def test_a_budget_is_a_share(budget: str, dataset_command: Any, tmp_path: Path):
    assert dataset_command("audit", tmp_path, f"--budget={budget}").exit_code == 2


def test_what_is_no_data_is_refused(dataset_command: Any, tmp_path: Path):
    with pytest.raises(DataError, match="no such file or folder"):
        dataset_command("audit", tmp_path / "nowhere")
