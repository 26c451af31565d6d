"""The pipeline batch_predict: a bundle over many images and videos; wiring only."""

from kfp import dsl

from visionyard.cluster.profiles import settle
from visionyard.components.predict_images import predict_images


@dsl.pipeline(name="batch-predict", display_name="Predict a batch")
def batch_predict(
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
    """A model bundle and addresses of images and videos in, parts of results out; a stopped run goes on.

    Args:
        bundle_uri: The model bundle: a folder or s3:// prefix.
        sources: Files, folders, s3:// prefixes or dataset versions.
        target_uri: Folder or s3:// prefix for the results; the same target goes on, new data needs a new one.
        confidence_threshold: For detections; below 0 takes the bundle's own.
        model_format: Of the bundle; empty takes its usual one.
        rate_hz: Frames looked at per second of video, above 0.
        file_format: Of the parts: jsonl or parquet.
        worker_count: Threads that load images; 0 takes as many as there are cores.
        software_digest: Digest of code and images, for the lineage.
    """
    predicted = predict_images(
        bundle_uri=bundle_uri,
        sources=sources,
        target_uri=target_uri,
        confidence_threshold=confidence_threshold,
        model_format=model_format,
        rate_hz=rate_hz,
        file_format=file_format,
        worker_count=worker_count,
        software_digest=software_digest,
    )
    # What lies below the sources is no part of KFP's cache key.
    predicted.set_caching_options(False)
    settle(predicted, "predict_images")
