"""Data with masks train a detector: their boxes in Ultralytics' layout, read back."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml

from visionyard.data.artifacts import IMAGES, SHARDS, write_manifest
from visionyard.data.dataset import Dataset
from visionyard.data.ingest import ingest
from visionyard.data.items import Item, read_json_lines, write_json_lines
from visionyard.data.prepare import prepare_dataset
from visionyard.models.yolo.layout import detection_layout


def test_nuclei_with_masks_become_boxes(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    ingest(str(shared_data("nuclei-dsb2018")), tmp_path / "sources")
    (tmp_path / "frames" / SHARDS).mkdir(parents=True)
    write_json_lines(tmp_path / "frames" / IMAGES, [])
    write_manifest(tmp_path / "frames", "frames", {})
    report = prepare_dataset(tmp_path / "sources", tmp_path / "frames", tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    assert (report.task, dataset.has_masks, sum(report.item_counts.values())) == ("detection", True, 75)

    layout = tmp_path / "layout"
    layout.mkdir()
    description = detection_layout(dataset, layout)
    (layout / "data.yaml").write_text(yaml.safe_dump({"names": description["names"]}))
    ingest(str(layout), tmp_path / "again", kind="images_yolo")
    read_back = [Item.from_json(values) for values in read_json_lines(tmp_path / "again" / IMAGES)]
    boxes = {Path(item.source).stem: [box.xyxy for box in item.boxes or ()] for item in read_back}
    samples = [sample for split in ("train", "val") for sample in dataset.samples(split)]
    assert set(boxes) == {sample.key for sample in samples}
    for sample in samples:
        np.testing.assert_allclose(boxes[sample.key], sample.xyxy, atol=0.01)
