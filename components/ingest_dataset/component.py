"""The stage ingest_dataset."""

from kfp import dsl

from visionyard.components._images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def ingest_dataset(
    sources: dsl.Output[dsl.Dataset],
    source: str,
    kind: str = "auto",
    target: str = "",
    group_pattern: str = "",
    anonymize_model: str = "",
    anonymize_spec: str = "",
    anonymize_classes: list = [],
    anonymize_confidence: float = 0.3,
    anonymize_padding: float = 0.15,
    anonymize_method: str = "blur",
    anonymize_digest: str = "",
    data_digest: str = "",
    software_digest: str = "",
) -> None:
    """Bring clips or labelled images in, verified and hashed.

    Args:
        source: Folder, archive or file: a path, s3://bucket/prefix or http(s) address.
        kind: Layout: auto, or a kind that docs/bring-your-data.md names.
        target: Column to be learnt, for kind table; empty when the table's schema file names it.
        group_pattern: Regular expression on an image's path whose first group names its group.
        anonymize_model: Detector of what is hidden in images: a model bundle, or an ONNX file; a path or s3://
            address; empty hides nothing.
        anonymize_spec: For an ONNX file: its spec.yaml; empty: beside it, NAME.spec.yaml.
        anonymize_classes: The detector's classes that are hidden; empty hides all that it knows.
        anonymize_confidence: Least confidence of what is hidden, between 0 and 1.
        anonymize_padding: Margin hidden around a box, as a share of its width and height on each side.
        anonymize_method: blur, pixelate or fill.
        anonymize_digest: Digest of the content of model and spec, so that a cached result ends when they change.
        data_digest: Digest of the source's content, so that a cached result ends when the data changes.
        software_digest: Digest of code and image, so that a cached result ends when they change.

    Returns:
        sources: The verified files in shards, with annotations and the problems found.
    """
    from visionyard import events

    # Inside the stage: what an import costs or breaks belongs to it.
    with events.stage("ingest_dataset"):
        from pathlib import Path

        from visionyard.anonymization import open_anonymizing
        from visionyard.config import parse_run_config
        from visionyard.data.ingest import ingest

        # Checked as in a run config: a run form can hold anything.
        values = {"source": source, "kind": kind, "target": target, "group_pattern": group_pattern}
        anonymize = {
            "model": anonymize_model,
            "spec": anonymize_spec,
            "classes": anonymize_classes,
            "confidence": anonymize_confidence,
            "padding": anonymize_padding,
            "method": anonymize_method,
        }
        config = parse_run_config({"data": values, "frames": {"anonymize": anonymize}})
        data = config.data
        with open_anonymizing(config.frames.anonymize) as retouching:
            report = ingest(
                data.source,
                Path(sources.path),
                kind=data.kind,
                group_pattern=data.group_pattern,
                target_column=data.target,
                retouching=retouching,
            )
        sources.metadata.update(report.metadata())
        events.figures(**report.figures())
