"""The stage export_model."""

from kfp import dsl

from visionyard.components._images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def export_model(
    dataset: dsl.Input[dsl.Dataset],
    checkpoint: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    bundle: dsl.Output[dsl.Model],
    name: str = "model",
    formats: list = ["onnx", "torchscript"],
    opset: int = 18,
    score_tolerance: float = 0.001,
    metric_tolerance: float = 0.001,
    int8_metric_tolerance: float = 0.01,
    software_digest: str = "",
) -> None:
    """Export the model and certify that every format gives the trained model's answers.

    Args:
        dataset: From prepare_dataset.
        checkpoint: From train_model.
        evaluation: From validate_model.
        name: The model's name.
        formats: onnx, torchscript, onnx-fp16, onnx-int8, openvino.
        opset: ONNX operator set.
        score_tolerance: Largest difference of a class score.
        metric_tolerance: Largest difference of the main metric.
        int8_metric_tolerance: The same for onnx-int8.
        software_digest: Digest of code and image, so that a cached result ends when they change.

    Returns:
        bundle: The model bundle: model.json, the exported files, the parity certificate, a model card.
    """
    from visionyard import events

    # Inside the stage: what an import costs or breaks belongs to it.
    with events.stage("export_model"):
        from pathlib import Path

        from visionyard.evaluation import read_metrics
        from visionyard.export import export_model as export

        report = export(
            Path(checkpoint.path),
            Path(dataset.path),
            Path(bundle.path),
            metrics=read_metrics(Path(evaluation.path))["overall"],
            name=name,
            formats=formats,
            opset=opset,
            score_tolerance=score_tolerance,
            metric_tolerance=metric_tolerance,
            int8_metric_tolerance=int8_metric_tolerance,
        )
        bundle.metadata.update({"bundle_digest": report.bundle_digest, "parity": "passed"})
        events.figures(parity="passed", **{f"{name}_mb": round(size / 1e6, 2) for name, size in report.formats.items()})
