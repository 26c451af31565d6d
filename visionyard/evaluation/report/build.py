"""Collect what a run left in its folders and write it as one page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visionyard.atomic import write_atomic
from visionyard.data.opening import open_folder
from visionyard.errors import ArtifactError
from visionyard.evaluation.evaluate import read_curves, read_metrics
from visionyard.evaluation.report.attachments import (
    read_benchmark,
    read_bundle,
    read_parity,
    read_training,
    read_verdict,
)
from visionyard.evaluation.report.dataset_part import dataset_part
from visionyard.evaluation.report.images_part import images_part
from visionyard.pages import render_page

_DEFAULT_TITLE = "Training report"
SCRIPTS = ("gallery.js", "results.js", "origins.js", "report.js")


def build_report(
    target: Path,
    *,
    evaluation: Path,
    dataset: Path,
    training: Path | None = None,
    bundle: Path | None = None,
    benchmark: Path | None = None,
    verdict: Path | None = None,
    cost: Mapping[str, Any] | None = None,
    lineage: Mapping[str, str] | None = None,
    title: str = "",
) -> Path:
    """Write `report.html`: self-contained, without network, storage or cookies, at most about 8 MB.

    Where a folder is not given, the page says that the stage has not run.

    Args:
        target: The file to write; replaced whole.
        evaluation: The evaluation folder.
        dataset: The dataset version it was made on.
        training: The folder of the training stage.
        bundle: The model bundle.
        benchmark: The folder of the benchmark stage.
        verdict: The folder of the promotion stage.
        cost: What the run cost, as the values of `RunCost.to_json`; without it the page has no such section.
        lineage: Further names and digests, beside those of the folders.
        title: Of the page; empty takes the bundle's name.

    Returns:
        `target`.

    Raises:
        ArtifactError: A folder is incomplete or of an unknown version, or the evaluation is of another dataset version.
        DataError: An image of the dataset version cannot be decoded.
    """
    version = open_folder(dataset)
    metrics = read_metrics(evaluation)
    if metrics["dataset_digest"] != version.digest:
        raise ArtifactError(
            f"{evaluation}: made on dataset {metrics['dataset_digest'][:12]}, but {dataset} is {version.digest[:12]}; "
            "give the dataset version that was evaluated"
        )
    facts = read_bundle(bundle) if bundle else {}
    content = {
        "title": title or facts.get("bundle", _DEFAULT_TITLE),
        "task": metrics["task"],
        "item": version.item,
        "classes": metrics["classes"],
        "metrics": metrics,
        "data": dataset_part(version),
        "training": {"curves": read_curves(evaluation), "facts": read_training(training) if training else {}},
        "images": images_part(evaluation, version, metrics),
        "parity": read_parity(bundle) if bundle else None,
        "benchmark": read_benchmark(benchmark) if benchmark else None,
        "promotion": read_verdict(verdict) if verdict else None,
        "cost": cost,
        "lineage": {"dataset_digest": version.digest, **metrics["lineage"], **facts, **(lineage or {})},
    }
    write_atomic(target, render_page(content, package=__package__, scripts=SCRIPTS))
    return target
