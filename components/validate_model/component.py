"""The stage validate_model."""

from kfp import dsl

from visionyard.components._images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def validate_model(
    dataset: dsl.Input[dsl.Dataset],
    checkpoint: dsl.Input[dsl.Model],
    evaluation: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    confusion_matrix: dsl.Output[dsl.ClassificationMetrics],
    confidence_threshold: float = 0.25,
    iou_threshold: float = 0.5,
    software_digest: str = "",
) -> None:
    """Judge the trained model on the test split.

    Args:
        dataset: From prepare_dataset.
        checkpoint: From train_model.
        confidence_threshold: Detections below it are not drawn nor counted as right or wrong, 0 to 1.
        iou_threshold: Overlap from which a detection matches a true box, 0 to 1.
        software_digest: Digest of code and image, so that a cached result ends when they change.

    Returns:
        evaluation: Metrics, per-image results and curves.
        report: The page about data, training and test results.
        metrics: The test metrics, for the run's page.
        confusion_matrix: Truth against prediction, for the run's page.
    """
    from visionyard import events

    # Inside the stage: what an import costs or breaks belongs to it.
    with events.stage("validate_model"):
        import json
        from pathlib import Path

        from visionyard.evaluation import build_report, read_metrics
        from visionyard.training.validate import validate_model as validate

        result = validate(
            Path(checkpoint.path),
            Path(dataset.path),
            Path(evaluation.path),
            confidence_threshold=confidence_threshold,
            iou_threshold=iou_threshold,
        )
        build_report(
            Path(report.path),
            evaluation=Path(evaluation.path),
            dataset=Path(dataset.path),
            training=Path(checkpoint.path),
        )
        judged = read_metrics(Path(evaluation.path))
        evaluation.metadata.update({"dataset_digest": judged["dataset_digest"], **judged["overall"]})
        for name, value in judged["overall"].items():
            metrics.log_metric(name, value)
        matrix = judged["confusion_matrix"]
        confusion_matrix.log_confusion_matrix(matrix["labels"], matrix["counts"])
        # They are metadata; but KFP's local cache takes an output without a file for lost, and this stage and all after
        # it would run anew each time.
        for shown in (metrics, confusion_matrix):
            Path(shown.path).write_text(json.dumps(shown.metadata), encoding="utf-8")
        events.figures(**{result.metric_name: result.metric_value, f"{result.item}s": result.image_count})
