"""The components: glue that stands on its own, run with real artifacts."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
from kfp import dsl
from PIL import Image

from visionyard.components.extract_frames import extract_frames
from visionyard.components.ingest_dataset import ingest_dataset
from visionyard.components.prepare_dataset import prepare_dataset
from visionyard.data.dataset import Dataset
from visionyard.events import EVENTS_VARIABLE, read_events

REPOSITORY = Path(__file__).parents[2]
STAGES = sorted(path.parent.name for path in REPOSITORY.glob("components/*/component.py"))


def _artifact(path: Path) -> dsl.Dataset:
    return dsl.Dataset(uri=str(path))


def _photos(folder: Path) -> Path:
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(5):
            pixels = random.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_has_its_files(name: str):
    folder = REPOSITORY / "components" / name
    assert {"component.py", "__init__.py", "README.md"} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", STAGES)
def test_only_kfp_and_image_names_are_imported_outside_the_body(name: str):
    # Only the function's source travels to the container.
    tree = ast.parse((REPOSITORY / "components" / name / "component.py").read_text())
    modules = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert modules <= {"kfp", "typing", "visionyard.components._images"}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_does_its_work_inside_its_own_name(name: str):
    tree = ast.parse((REPOSITORY / "components" / name / "component.py").read_text())
    calls = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert f"events.stage('{name}')" in calls


def test_the_data_stages_from_files_to_a_dataset_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log = tmp_path / "events.jsonl"
    monkeypatch.setenv(EVENTS_VARIABLE, str(log))
    sources, frames, dataset = (_artifact(tmp_path / name) for name in ("sources", "frames", "dataset"))
    ingest_dataset.python_func(sources=sources, source=str(_photos(tmp_path / "photos")))
    extract_frames.python_func(sources=sources, frames=frames)
    # KFP hands integers inside lists on as floats; texts arrive as they are.
    prepare_dataset.python_func(sources=sources, frames=frames, dataset=dataset, classes=["b", "a"])
    version = Dataset(Path(dataset.path))
    assert version.classes == ["b", "a"]
    assert dataset.metadata["digest"] == version.digest
    finished = [event for event in read_events(log) if event["kind"] == "stage_finished"]
    assert [event["stage"] for event in finished] == ["ingest_dataset", "extract_frames", "prepare_dataset"]
    assert finished[2]["figures"]["images"] == 10


def test_a_failing_stage_leaves_an_exit_report_and_no_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv(EVENTS_VARIABLE, str(tmp_path / "events.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as ended:
        ingest_dataset.python_func(sources=_artifact(tmp_path / "sources"), source=str(tmp_path / "empty"))
    assert ended.value.code == 1
    report = json.loads((tmp_path / "ingest_dataset.exit.json").read_text())
    assert report["exit_class"] == "bad_data"
    assert str(tmp_path / "empty") in report["message"]
    assert capsys.readouterr().err.splitlines()[-1].startswith("What to do:")
    assert not (tmp_path / "sources").exists()


def test_a_value_that_no_run_config_allows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(EVENTS_VARIABLE, str(tmp_path / "events.jsonl"))
    with pytest.raises(SystemExit):
        ingest_dataset.python_func(sources=_artifact(tmp_path / "sources"), source="x", kind="pictures")
    assert json.loads((tmp_path / "ingest_dataset.exit.json").read_text())["exit_class"] == "bad_config"
