"""The stage extract_frames."""

from kfp import dsl

from visionyard.components._images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def extract_frames(
    sources: dsl.Input[dsl.Dataset],
    frames: dsl.Output[dsl.Dataset],
    rate_hz: float = 2.0,
    max_per_clip: int = 0,
    drop_blurred: bool = False,
    drop_similar: bool = False,
    jpeg_quality: int = 95,
    anonymize_model: str = "",
    anonymize_spec: str = "",
    anonymize_classes: list = [],
    anonymize_confidence: float = 0.3,
    anonymize_padding: float = 0.15,
    anonymize_method: str = "blur",
    anonymize_digest: str = "",
    software_digest: str = "",
) -> None:
    """Take still images from every clip, with the labels of their moment.

    Args:
        sources: From ingest_dataset.
        rate_hz: Frames kept per second of video, by presentation time, above 0.
        max_per_clip: Most frames of one clip, spread evenly over it; 0 keeps all.
        drop_blurred: Leave out frames far less sharp than their clip's usual.
        drop_similar: Leave out frames that look like the one kept before them.
        jpeg_quality: JPEG quality of the kept frames, 50 to 100.
        anonymize_model: Detector of what is hidden in frames: a model bundle, or an ONNX file; a path or s3://
            address; empty hides nothing.
        anonymize_spec: For an ONNX file: its spec.yaml; empty: beside it, NAME.spec.yaml.
        anonymize_classes: The detector's classes that are hidden; empty hides all that it knows.
        anonymize_confidence: Least confidence of what is hidden, between 0 and 1.
        anonymize_padding: Margin hidden around a box, as a share of its width and height on each side.
        anonymize_method: blur, pixelate or fill.
        anonymize_digest: Digest of the content of model and spec, so that a cached result ends when they change.
        software_digest: Digest of code and image, so that a cached result ends when they change.

    Returns:
        frames: Images in shards, each with its clip, time and label; empty when the source holds no clips.
    """
    from visionyard import events

    # Inside the stage: what an import costs or breaks belongs to it.
    with events.stage("extract_frames"):
        from pathlib import Path

        from visionyard.anonymization import open_anonymizing, parse_anonymize
        from visionyard.data.extract_frames import extract_frames as extract

        settings = {
            "model": anonymize_model,
            "spec": anonymize_spec,
            "classes": anonymize_classes,
            "confidence": anonymize_confidence,
            "padding": anonymize_padding,
            "method": anonymize_method,
        }
        with open_anonymizing(parse_anonymize(settings)) as retouching:
            report = extract(
                Path(sources.path),
                Path(frames.path),
                rate_hz=rate_hz,
                max_per_clip=max_per_clip,
                drop_blurred=drop_blurred,
                drop_similar=drop_similar,
                jpeg_quality=jpeg_quality,
                retouching=retouching,
            )
        frames.metadata.update(report.metadata())
        events.figures(**report.figures())
