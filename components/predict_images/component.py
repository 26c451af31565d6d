"""The stage predict_images."""

from kfp import dsl

from visionyard.components._images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def predict_images(
    summary: dsl.Output[dsl.Artifact],
    bundle_uri: str,
    sources: list,
    target_uri: str,
    confidence_threshold: float = -1.0,
    model_format: str = "",
    rate_hz: float = 1.0,
    file_format: str = "jsonl",
    worker_count: int = 0,
    software_digest: str = "",
) -> None:
    """Look at every image and video below some addresses; go on where an earlier run with the same target stopped.

    Args:
        bundle_uri: The model bundle: a folder or s3:// prefix.
        sources: Files, folders, s3:// prefixes or dataset versions.
        target_uri: Folder or s3:// prefix for the results, one part every 256 items.
        confidence_threshold: For detections; below 0 takes the bundle's own.
        model_format: Of the bundle; empty takes its usual one.
        rate_hz: Frames looked at per second of video, above 0.
        file_format: Of the parts: jsonl or parquet.
        worker_count: Threads that load images; 0 takes as many as there are cores.
        software_digest: Digest of code and image, so that a cached result ends when they change.

    Returns:
        summary: Counts and failures as JSON; its metadata says where the parts lie.
    """
    from visionyard import events

    # Inside the stage: what an import costs or breaks belongs to it.
    with events.stage("predict_images"):
        from pathlib import Path

        from visionyard.cluster.batch_run import run_batch

        report = run_batch(
            bundle_uri,
            [str(source) for source in sources],
            target_uri,
            Path(summary.path),
            confidence_threshold=confidence_threshold,
            model_format=model_format,
            rate_hz=rate_hz,
            file_format=file_format,
            worker_count=worker_count,
        )
        figures = {
            "pictures": report.picture_count,
            "items": report.item_count,
            "failed": report.failed_count,
            "resumed_parts": report.resumed_part_count,
        }
        summary.metadata.update({**figures, "target_uri": target_uri})
        events.figures(**figures)
