"""The promotion stage with real bundles, a real MLflow store, real predictions; approvals and the watermark."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import write_dataset
from tests.fixtures.tiny_models import CLASSES, _picture
from visionyard.config import PromotionConfig
from visionyard.data.artifacts import write_manifest
from visionyard.data.dataset import Dataset
from visionyard.errors import ArtifactError, ConfigError, StorageError
from visionyard.events import RUN_VARIABLE
from visionyard.inference import Bundle
from visionyard.promotion import Approval, approve, find_approval, promote_model, read_verdict
from visionyard.promotion.promote import Decision
from visionyard.promotion.watermark import find_new_data, move_watermark, read_watermark
from visionyard.tracking.registry import Registry

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow and Alembic warn of their own dependencies


@dataclass(frozen=True)
class _Run:
    """What a pipeline run hands to the promotion; the model is named after the test's folder."""

    folder: Path

    def promote(self, target: Path, **config: Any) -> Decision:
        parts = {name: self.folder / name for name in ("bundle", "checkpoint", "dataset", "evaluation", "benchmark")}
        return promote_model(**parts, target=target, config=PromotionConfig(**config), run_name=target.parent.name)


def _dataset(folder: Path, *, test_seed: int) -> Path:
    rows = []
    for split, count, seed in (("train", 4, test_seed + 1), ("val", 2, test_seed + 2), ("test", 8, test_seed)):
        random = np.random.default_rng(seed)
        for number in range(count):
            image, class_ids, _ = _picture(random, "classification")
            rows.append({"split": split, "key": f"{split}{seed}-{number}", "image": image, "class_ids": class_ids})
    return write_dataset(folder, task="classification", classes=CLASSES, rows=rows)


@pytest.fixture(scope="module")
def runs(tiny_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, _Run]:
    """A model that is always right and one that is always wrong, each trained and tested on data of its own."""
    from visionyard.evaluation import evaluate
    from visionyard.export import Origin, Tolerances, export_trained
    from visionyard.inference import Predictor

    made = {}
    for number, name in enumerate(("right", "wrong")):
        folder = tmp_path_factory.mktemp(name)
        dataset = Dataset(_dataset(folder / "dataset", test_seed=10 * number))
        model = tiny_model("classification")
        if name == "wrong":
            model.module.head.weight.data = model.module.head.weight.data.flip(0)
        origin = Origin(name, "hand-made", "squares", "Apache-2.0", dataset.digest, "c" * 64, "e" * 64, {})
        tolerances = Tolerances(score=0.001, metric=0.001)
        export_trained(model, origin, dataset, folder / "bundle", formats=["onnx"], opset=18, tolerances=tolerances)
        thresholds = {"confidence_threshold": 0.25, "iou_threshold": 0.5}
        evaluate(Predictor.from_model(model), dataset, folder / "evaluation", **thresholds, lineage={}, curves=[])
        (folder / "benchmark").mkdir()
        speed = {"bundle_digest": Bundle.open(folder / "bundle").digest, "fastest": {"p95_ms": 12.0}}
        write_manifest(folder / "benchmark", "benchmark", speed, name="benchmark.json")
        (folder / "checkpoint").mkdir()
        (folder / "checkpoint" / "checkpoint.pt").write_text(f"weights of {name}")
        made[name] = _Run(folder)
    return made


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return one MLflow store for all tests, each with a model of its own: opening another takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def registry(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv(RUN_VARIABLE, "squares-1")
    return Registry(tmp_path.name)


def test_without_a_registry_the_absolute_gates_decide(
    runs: dict[str, _Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    runs["right"].promote(tmp_path / "a", most_p95_ms=20)
    assert "no registry (MLFLOW_TRACKING_URI is not set); top_1 1.0000" in read_verdict(tmp_path / "a")["reasons"][0]
    runs["wrong"].promote(tmp_path / "b", least_metric=0.5, most_p95_ms=5)
    verdict = read_verdict(tmp_path / "b")
    assert (verdict["verdict"], len(verdict["reasons"])) == ("reject", 2)


def test_a_better_model_takes_over_and_a_worse_one_does_not(registry: Registry, runs: dict[str, _Run], tmp_path: Path):
    assert runs["wrong"].promote(tmp_path / "first").judgement.verdict == "promote"
    found = runs["right"].promote(tmp_path / "second")
    assert (found.judgement.champion, found.judgement.challenger, found.champion_version) == (0.0, 1.0, 1)
    assert registry.state().champion.bundle_digest == found.challenger_digest

    refused = runs["wrong"].promote(tmp_path / "third")
    verdict = read_verdict(tmp_path / "third")
    assert verdict["verdict"] == "reject"
    assert "the new model is not better: top_1 champion 1.0000, new model 0.0000" in verdict["reasons"][0]
    assert {one["name"] for one in verdict["per_class"] if one["is_over_budget"]} == set(CLASSES)
    assert verdict["champion"]["version"] == 2
    assert registry.state().champion.number == 2
    challenger = registry._version(registry._alias("challenger"))
    assert challenger.bundle_digest == refused.challenger_digest
    page = (tmp_path / "third" / "verdict.md").read_text()
    assert page.startswith("# Verdict: reject\n\n- the new model is not better")


def test_a_champion_is_not_promoted_again(registry: Registry, runs: dict[str, _Run], tmp_path: Path):
    runs["right"].promote(tmp_path / "first")
    again = runs["right"].promote(tmp_path / "second")
    assert again.judgement.verdict == "promote"
    assert f"it is the champion of {registry.name} already, version 1" in again.judgement.reasons[0]
    assert len(registry.versions()) == 1


def test_a_model_is_judged_again_when_the_champion_moved_meanwhile(
    registry: Registry, runs: dict[str, _Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """While the right model is judged against the wrong one, another right one becomes champion."""
    runs["wrong"].promote(tmp_path / "first")
    other = tmp_path / "other"
    shutil.copytree(runs["right"].folder, other)
    manifest = json.loads((other / "bundle/model.json").read_text())
    (other / "bundle/model.json").write_text(json.dumps({**manifest, "name": "other"}))

    speed = {"bundle_digest": Bundle.open(other / "bundle").digest, "fastest": {"p95_ms": 1.0}}
    write_manifest(other / "benchmark", "benchmark", speed, name="benchmark.json")
    promote, raced = Registry.promote, []

    def race(self: Registry, *args: Any, **options: Any) -> bool:
        if not raced:
            raced.append(True)
            assert _Run(other).promote(tmp_path / "overtaking").judgement.verdict == "promote"
        return promote(self, *args, **options)

    monkeypatch.setattr(Registry, "promote", race)
    found = runs["right"].promote(tmp_path / "second")
    assert found.judgement.verdict == "reject"
    assert found.champion_version == 2
    assert "differ on 0 groups of 8" in found.judgement.reasons[0]
    assert registry.state().champion.number == 2


def test_groups_that_the_champion_was_trained_on_are_left_out(
    registry: Registry, runs: dict[str, _Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    runs["wrong"].promote(tmp_path / "first")
    seen = sorted({one.sha256 for one in Dataset(runs["right"].folder / "dataset").samples("test")})
    fetch = Registry.fetch

    def fetch_seen(self: Registry, version: Any, what: str, target: Path) -> Path:
        folder = fetch(self, version, what, target)
        if what == "lineage":
            (folder / "seen_images.txt").write_text("\n".join(seen[:5]))
        return folder

    monkeypatch.setattr(Registry, "fetch", fetch_seen)
    found = runs["right"].promote(tmp_path / "second")
    assert "the test split has 3 groups to compare on" in found.judgement.reasons[0]


def test_a_person_approves_by_data(registry: Registry, runs: dict[str, _Run], tmp_path: Path):
    gates = {"approval": "required", "store": str(tmp_path / "store")}
    waiting = runs["right"].promote(tmp_path / "first", **gates)
    assert (waiting.judgement.verdict, waiting.is_pending) == ("reject", True)
    assert f"visionyard approve {waiting.challenger_digest} --by NAME" in waiting.judgement.reasons[0]
    assert registry.state().champion is None

    given = Approval(waiting.challenger_digest, "Ada", "2026-03-01T10:00:00+00:00", "looked at the misses")
    approve(str(tmp_path / "store"), given)
    passed = runs["right"].promote(tmp_path / "second", **gates)
    assert (passed.judgement.verdict, passed.is_pending, passed.approval) == ("promote", False, given)
    assert registry.state().champion.tags["visionyard.approved_by"] == "Ada"
    assert "Approved by Ada on 2026-03-01" in (tmp_path / "second" / "verdict.md").read_text()
    # An approval lets pass, it does not judge.
    approve(str(tmp_path / "store"), Approval(runs["wrong"].promote(tmp_path / "x").challenger_digest, "Ada", "now"))
    assert runs["wrong"].promote(tmp_path / "third", **gates).judgement.verdict == "reject"


def test_folders_of_two_runs_are_refused(registry: Registry, runs: dict[str, _Run], tmp_path: Path):
    for part in ("evaluation", "benchmark"):
        mixed = tmp_path / f"mixed-{part}"
        shutil.copytree(runs["right"].folder, mixed)
        shutil.rmtree(mixed / part)
        shutil.copytree(runs["wrong"].folder / part, mixed / part)
        with pytest.raises(ArtifactError, match="give those of one run"):
            _Run(mixed).promote(tmp_path / "verdict")
    assert not (tmp_path / "verdict").exists()


def test_an_approval_is_found_by_its_bundle_only(tmp_path: Path):
    store = str(tmp_path)
    approve(store, Approval("a" * 64, "Ada", "2026-03-01T10:00:00+00:00"))
    assert find_approval(store, "b" * 64) is None
    assert find_approval(store, "a" * 64).by == "Ada"
    shutil.copyfile(tmp_path / f"approvals/{'a' * 64}.json", tmp_path / f"approvals/{'b' * 64}.json")
    with pytest.raises(StorageError, match="expected schema_version 1, the digest bbbbbbbbbbbb"):
        find_approval(store, "b" * 64)
    (tmp_path / f"approvals/{'c' * 64}.json").write_text("[]")
    with pytest.raises(StorageError, match="not an approval"):
        find_approval(store, "c" * 64)


@pytest.mark.parametrize(
    ("store", "digest", "by", "match"),
    [
        ("", "a" * 64, "Ada", "promotion.store is empty"),
        ("store", "abc", "Ada", "'abc': expected the digest of a bundle"),
        ("store", "a" * 64, " ", "an approval names who gives it"),
    ],
    ids=["no store", "no digest", "nobody"],
)
def test_an_approval_that_says_too_little_is_refused(store: str, digest: str, by: str, match: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=match):
        approve(str(tmp_path / store) if store else "", Approval(digest, by, "now"))


def test_new_data_is_what_the_watermark_has_not_seen(registry: Registry, runs: dict[str, _Run], tmp_path: Path):
    store, source = str(tmp_path / "store"), tmp_path / "photos"
    source.mkdir()
    (source / "a.jpg").write_text("a")
    first = find_new_data(str(source), store=store, model=registry.name, weights="start.pt")
    assert (first.decision, first.weights) == ("train", "start.pt")
    assert find_new_data(str(source), store=store, model=registry.name).decision == "train"

    move_watermark(store, registry.name, first.data_digest, verdict="promote")
    assert find_new_data(str(source), store=store, model=registry.name).decision == "skip"
    assert find_new_data(str(source), store=store, model="circles").decision == "train"

    champion = runs["right"].promote(tmp_path / "verdict").challenger_digest
    (source / "b.jpg").write_text("b")
    second = find_new_data(str(source), store=store, model=registry.name, weights="start.pt")
    assert second.decision == "train"
    assert Path(second.weights).name == f"{champion}.pt"
    assert Path(second.weights).read_text() == "weights of right"
    assert find_new_data(str(source), store=store, model=registry.name, is_warm=False).weights == ""


def test_a_model_that_starts_from_no_weights_is_given_none(registry: Registry, runs: dict[str, _Run], tmp_path: Path):
    from visionyard.components.find_new_data.component import find_new_data as stage

    store, source = str(tmp_path / "store"), tmp_path / "photos"
    source.mkdir()
    (source / "a.jpg").write_text("a")
    champion = runs["right"].promote(tmp_path / "verdict").challenger_digest
    asked = {"source": str(source), "store": store, "model": registry.name}
    assert champion in stage.python_func(**asked, plugin="torchvision-classification")[2]
    assert stage.python_func(**asked, plugin="tabular-classification")[2] == ""


def test_a_damaged_watermark_is_named(tmp_path: Path):
    path = tmp_path / "retrain/squares/watermark.json"
    path.parent.mkdir(parents=True)
    for content, match in (("{", "not a watermark"), ('{"schema_version": 9, "data_digest": "x"}', "version 9")):
        path.write_text(content)
        with pytest.raises(StorageError, match=match):
            read_watermark(str(tmp_path), "squares")
    with pytest.raises(ConfigError, match="store is empty"):
        read_watermark("", "squares")


def test_models_of_a_table_are_compared_row_by_row(
    registry: Registry, table_dataset: Path, table_checkpoint: Path, tmp_path: Path
):
    from visionyard.data.tables import TableDataset
    from visionyard.evaluation import evaluate
    from visionyard.export import Origin, Tolerances, export_trained
    from visionyard.inference import Predictor
    from visionyard.training import load_trained_model

    dataset = TableDataset(table_dataset)
    for name in ("wrong", "right"):
        folder = tmp_path / name
        folder.mkdir()
        trained, _ = load_trained_model(table_checkpoint)
        if name == "wrong":
            last = trained.module.head[-1]
            last.weight.data, last.bias.data = -last.weight.data, -last.bias.data
        origin = Origin(name, "tabular-classification", "small", "Apache-2.0", dataset.digest, "c" * 64, "e" * 64, {})
        tolerances = Tolerances(score=0.001, metric=0.001)
        export_trained(trained, origin, dataset, folder / "bundle", formats=["onnx"], opset=18, tolerances=tolerances)
        thresholds = {"confidence_threshold": 0.25, "iou_threshold": 0.5}
        evaluate(Predictor.from_model(trained), dataset, folder / "evaluation", **thresholds, lineage={}, curves=[])
        (folder / "benchmark").mkdir()
        speed = {"bundle_digest": Bundle.open(folder / "bundle").digest, "fastest": {"p95_ms": 0.1}}
        write_manifest(folder / "benchmark", "benchmark", speed, name="benchmark.json")
        (folder / "dataset").symlink_to(table_dataset)
        (folder / "checkpoint").symlink_to(table_checkpoint)
    assert _Run(tmp_path / "wrong").promote(tmp_path / "first").judgement.verdict == "promote"
    found = _Run(tmp_path / "right").promote(tmp_path / "second").judgement
    assert (found.verdict, found.champion) == ("promote", pytest.approx(1 - found.challenger))
    verdict = read_verdict(tmp_path / "second")
    assert verdict["statistics"]["groups"] == dataset.count("test"), "each row is a group of its own"
    assert _Run(tmp_path / "wrong").promote(tmp_path / "third").judgement.verdict == "reject"
