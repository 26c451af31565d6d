"""The promotion stage: the new bundle against the champion, on the new bundle's own test split.

The champion is never judged by its old figures: its bundle is run on the test split of the new dataset version, without
the groups that hold an image it was trained on, which would flatter it.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from visionyard import events
from visionyard.atomic import write_atomic
from visionyard.config import PromotionConfig
from visionyard.data.artifacts import read_manifest
from visionyard.data.dataset import DatasetVersion
from visionyard.data.opening import open_folder
from visionyard.errors import ArtifactError
from visionyard.evaluation import evaluate, read_metrics, read_results
from visionyard.inference import Bundle, Predictor
from visionyard.promotion.approval import Approval, find_approval
from visionyard.promotion.comparable import difference, on_its_columns
from visionyard.promotion.judge import Candidate, Gates, Judgement, judge, judge_alone
from visionyard.promotion.verdict import Decision, write_verdict
from visionyard.tracking.registry import ModelVersion, Registry, State
from visionyard.tracking.runs import URI_VARIABLE

BUNDLE, CHECKPOINT, LINEAGE = "bundle", "checkpoint", "lineage"
SEEN_IMAGES = "seen_images.txt"
# A champion that moves more often than this while one model is judged is a fault of the schedules.
_MOST_ROUNDS = 5


def promote_model(
    *,
    bundle: Path,
    checkpoint: Path,
    dataset: Path,
    evaluation: Path,
    benchmark: Path,
    target: Path,
    config: PromotionConfig,
    run_name: str,
) -> Decision:
    """Judge a new bundle and, when it passes, make it the champion.

    With MLFLOW_TRACKING_URI the model is registered, and judged against the champion of that name; without it the
    absolute gates decide.

    Args:
        bundle: The new bundle.
        checkpoint: What it was exported from; kept with it, so that a later training can start from it.
        dataset: The dataset version it was trained and tested on.
        evaluation: Its results on the test split.
        benchmark: How fast it is.
        target: The verdict's folder; it appears whole or not at all.
        config: The gates.
        run_name: Name of the registered model where the config gives none.

    Raises:
        ArtifactError: A folder is incomplete, or they do not belong together.
        StorageError: MLflow or the store of approvals failed.
    """
    new = _NewModel(bundle, checkpoint, dataset, evaluation, benchmark)
    name = config.model or run_name
    registry = Registry(name) if os.environ.get(URI_VARIABLE) else None
    for round_number in range(1, _MOST_ROUNDS + 1):
        state = registry.state() if registry else State(None, 0)
        decision = _decide(new, registry, state.champion, config, name)
        if registry is None or _register(registry, new, state, decision):
            break
        events.warn(f"the champion of {name} changed meanwhile (try {round_number}); the new model is judged again")
    else:
        reason = f"the champion of {name} changed {_MOST_ROUNDS} times while this model was judged; run again"
        judgement = replace(decision.judgement, verdict="reject", reasons=[reason])
        decision = replace(decision, judgement=judgement)
    write_verdict(decision, target)
    return decision


class _NewModel:
    """The challenger and what belongs to it, checked."""

    def __init__(self, bundle: Path, checkpoint: Path, dataset: Path, evaluation: Path, benchmark: Path) -> None:
        self.bundle, self.checkpoint, self.evaluation = Bundle.open(bundle), checkpoint, evaluation
        self.digest = self.bundle.digest
        self.dataset = open_folder(dataset)
        self.metrics = read_metrics(evaluation)
        self.task = self.dataset.task
        manifest = self.bundle.manifest
        tested = {"bundle": manifest.dataset_digest, "evaluation": self.metrics["dataset_digest"]}
        for what, digest in tested.items():
            if digest != self.dataset.digest:
                raise ArtifactError(
                    f"{dataset}: the {what} belongs to dataset version {digest[:12]}, this is "
                    f"{self.dataset.digest[:12]}; give those of one run"
                )
        speed = read_manifest(benchmark, "benchmark", name="benchmark.json")
        if speed["bundle_digest"] != self.digest:
            raise ArtifactError(f"{benchmark}: of another bundle than {bundle}; give those of one run")
        self.candidate = Candidate(
            metric=float(self.metrics["metric"]["value"]),
            p95_ms=float(speed["fastest"]["p95_ms"]),
            is_parity_passed=manifest.parity.is_passed if manifest.parity else None,
            is_leaky=bool(self.dataset.info.get("leak", {}).get("is_leaky", True)),
        )

    def files(self, scratch: Path) -> dict[str, Path]:
        """Return what is kept with the version: bundle, checkpoint, and the images it has seen."""
        seen = sorted({one.sha256 for split in ("train", "val") for one in self.dataset.samples(split)})
        write_atomic(scratch / LINEAGE / SEEN_IMAGES, "".join(f"{line}\n" for line in seen))
        return {BUNDLE: self.bundle.folder, CHECKPOINT: self.checkpoint, LINEAGE: scratch / LINEAGE}


def _decide(
    new: _NewModel, registry: Registry | None, champion: ModelVersion | None, config: PromotionConfig, name: str
) -> Decision:
    gates = Gates(
        confidence=config.confidence,
        least_gain=config.least_gain,
        class_budget=config.class_budget,
        least_metric=config.least_metric,
        most_p95_ms=config.most_p95_ms,
    )
    if registry is None:
        judgement = judge_alone(new.candidate, gates, task=new.task, why=f"no registry ({URI_VARIABLE} is not set)")
    elif champion is None:
        judgement = judge_alone(new.candidate, gates, task=new.task, why=f"{name} has no champion yet")
    elif champion.bundle_digest == new.digest:
        why = f"it is the champion of {name} already, version {champion.number}"
        judgement = judge_alone(new.candidate, gates, task=new.task, why=why)
    else:
        judgement = _judge_against(new, registry, champion, gates)
    judgement, approval, is_pending = _ask_for_approval(judgement, config, new.digest)
    return Decision(
        judgement=judgement,
        is_pending=is_pending,
        task=new.task,
        model=name if registry else "",
        champion_version=champion.number if champion else 0,
        champion_digest=champion.bundle_digest if champion else "",
        challenger_digest=new.digest,
        approval=approval,
        dataset_digest=new.dataset.digest,
    )


def _judge_against(new: _NewModel, registry: Registry, champion: ModelVersion, gates: Gates) -> Judgement:
    """Run the champion on the new test split and judge the new model against it."""
    with tempfile.TemporaryDirectory(prefix="visionyard-champion-") as scratch:
        events.progress(0, None, unit="", label=f"fetching the champion, version {champion.number}")
        folder = registry.fetch(champion, BUNDLE, Path(scratch))
        seen = set((registry.fetch(champion, LINEAGE, Path(scratch)) / SEEN_IMAGES).read_text().split())
        manifest = Bundle.open(folder).manifest
        if reason := difference(manifest, new.bundle.manifest):
            alone = judge_alone(new.candidate, gates, task=new.task, why="")
            reason = f"the champion, version {champion.number}, {reason}"
            against = alone.reasons if alone.verdict == "reject" else []
            return replace(alone, verdict="reject", reasons=[*against, reason])
        thresholds = new.metrics["thresholds"]
        results = Path(scratch) / "evaluation"
        with Predictor.from_bundle(folder, device="auto") as predictor:
            evaluate(
                on_its_columns(predictor),
                new.dataset,
                results,
                confidence_threshold=thresholds["confidence"],
                iou_threshold=thresholds["iou"],
                lineage={},
                curves=[],
            )
        return judge(
            read_results(results),
            read_results(new.evaluation),
            new.candidate,
            gates,
            task=new.task,
            classes=new.dataset.classes,
            groups=_unseen_groups(new.dataset, seen),
        )


def _unseen_groups(dataset: DatasetVersion, seen: set[str]) -> list[str]:
    """Return the test groups of which the champion has seen no image."""
    groups: dict[str, bool] = {}
    for sample in dataset.samples("test"):
        groups[sample.group] = groups.get(sample.group, True) and sample.sha256 not in seen
    known = sum(not is_unseen for is_unseen in groups.values())
    if known:
        events.warn(f"{known} of {len(groups)} test groups are left out: the champion was trained on images of them")
    return sorted(group for group, is_unseen in groups.items() if is_unseen)


def _ask_for_approval(
    judgement: Judgement, config: PromotionConfig, digest: str
) -> tuple[Judgement, Approval | None, bool]:
    if config.approval == "none" or judgement.verdict == "reject":
        return judgement, None, False
    approval = find_approval(config.store, digest)
    if approval is not None:
        return judgement, approval, False
    reason = (
        f"a person's approval is missing (promotion.approval is required): visionyard approve {digest} --by NAME "
        f"--store {config.store}, then run again; {judgement.reasons[0]}"
    )
    return replace(judgement, verdict="reject", reasons=[reason]), None, True


def _register(registry: Registry, new: _NewModel, state: State, decision: Decision) -> bool:
    """Write the decision into the registry; False when the champion has moved since."""
    champion = state.champion
    if champion is not None and champion.bundle_digest == new.digest:
        return True
    tags = _tags(decision)
    with tempfile.TemporaryDirectory(prefix="visionyard-register-") as scratch:
        files = new.files(Path(scratch))
        if decision.judgement.verdict == "promote":
            return registry.promote(new.digest, files, after=state.head, tags=tags)
        registry.challenge(new.digest, files, tags=tags)
    return True


def _tags(decision: Decision) -> Mapping[str, str]:
    found = decision.judgement
    values: dict[str, Any] = {
        "verdict": found.verdict,
        "reasons": json.dumps(found.reasons, ensure_ascii=False),
        "metric": f"{found.metric_name} {found.challenger:.4f}",
        "judged_against": str(decision.champion_version or ""),
        "dataset_digest": decision.dataset_digest,
        "run": os.environ.get(events.RUN_VARIABLE, ""),
        "approved_by": decision.approval.by if decision.approval else "",
    }
    return {f"visionyard.{name}": str(value) for name, value in values.items()}
