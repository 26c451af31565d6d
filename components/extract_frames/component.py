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
        software_digest: Digest of code and image, so that a cached result ends when they change.

    Returns:
        frames: Images in shards, each with its clip, time and label; empty when the source holds no clips.
    """
    from visionyard import events

    # Inside the stage: what an import costs or breaks belongs to it.
    with events.stage("extract_frames"):
        from pathlib import Path

        from visionyard.data.extract_frames import extract_frames as extract

        report = extract(
            Path(sources.path),
            Path(frames.path),
            rate_hz=rate_hz,
            max_per_clip=max_per_clip,
            drop_blurred=drop_blurred,
            drop_similar=drop_similar,
            jpeg_quality=jpeg_quality,
        )
        frames.metadata.update(report.metadata())
        events.figures(frames=report.frame_count, clips=report.clip_count, skipped=report.skipped_count)
