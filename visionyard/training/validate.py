"""The validation stage: a checkpoint judged on the test split it never saw."""

import json
from pathlib import Path
from typing import Any

from visionyard.data.opening import open_folder
from visionyard.digests import code_digest
from visionyard.errors import ArtifactError
from visionyard.evaluation import EvaluationReport, evaluate
from visionyard.inference import Predictor
from visionyard.training.checkpoint import load_trained_model
from visionyard.training.plan import choose_device
from visionyard.training.train import TRAINING


def validate_model(
    checkpoint: Path, dataset: Path, target: Path, *, confidence_threshold: float, iou_threshold: float
) -> EvaluationReport:
    """Judge a trained model on the test split and write the evaluation.

    Args:
        checkpoint: Folder that `train_model` wrote.
        dataset: The dataset version it was trained on.
        target: The evaluation folder; it appears whole or not at all.
        confidence_threshold: Detections below it do not count as right or wrong, 0 to 1.
        iou_threshold: Least overlap of a detection with the true box it found, 0 to 1.

    Raises:
        ArtifactError: The checkpoint or the dataset is incomplete, or they do not belong together.
        DataError: The test split has nothing to judge by.
    """
    trained, info = load_trained_model(checkpoint)
    version = open_folder(dataset)
    if info.dataset_digest != version.digest:
        raise ArtifactError(
            f"{checkpoint}: trained on dataset {info.dataset_digest[:12]}, but {dataset} is {version.digest[:12]}; "
            "its test split may have been trained on: judge it on its own dataset"
        )
    lineage = {
        "model": f"{info.plan.model_name} {info.plan.preset}",
        "epoch": str(info.epoch),
        "checkpoint_digest": info.digest,
        "config_digest": info.config_digest,
        "dataset_digest": version.digest,
        "code_digest": code_digest(),
    }
    predictor = Predictor.from_model(trained, choose_device("auto"))
    return evaluate(
        predictor,
        version,
        target,
        confidence_threshold=confidence_threshold,
        iou_threshold=iou_threshold,
        lineage=lineage,
        curves=_read_history(checkpoint),
    )


def _read_history(checkpoint: Path) -> list[dict[str, Any]]:
    content = json.loads((checkpoint / TRAINING).read_text(encoding="utf-8"))
    history: list[dict[str, Any]] = content["history"]
    return history
