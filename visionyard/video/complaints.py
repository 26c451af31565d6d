"""What is missing or damaged in a clip, measured against what its header declares."""

from visionyard.video.probe import VideoInfo

# Headers are off by one or two frames in a third of real files.
_MISSING_FRAME_COUNT = 2
_MISSING_SHARE = 0.01


def complaints(info: VideoInfo, frame_count: int, end_s: float, damaged_count: int) -> tuple[tuple[str, str], ...]:
    """Return code and message of each thing wrong with a clip that could be read all the same.

    Args:
        info: What its header declares.
        frame_count: Frames that it has.
        end_s: When the last of them ends.
        damaged_count: Packets and frames that are damaged.
    """
    found: list[tuple[str, str]] = []
    shortfall = _shortfall(info, frame_count, end_s)
    if shortfall:
        found.append((shortfall, _shortfall_message(info, frame_count, end_s)))
    if damaged_count:
        found.append(("clip_damaged", f"{damaged_count} packets or frames are damaged; whole frames were kept"))
    return tuple(found)


def _shortfall(info: VideoInfo, frame_count: int, end_s: float) -> str:
    """Return the word for what is missing against the header: the end, frames in between, or nothing."""
    missing_count = info.declared_frame_count - frame_count
    lacks_frames = missing_count > max(_MISSING_FRAME_COUNT, _MISSING_SHARE * info.declared_frame_count)
    if info.declared_duration_s is None:
        return "clip_truncated" if lacks_frames else ""
    tolerance_s = max(2 * _MISSING_FRAME_COUNT / float(info.rate_hz), _MISSING_SHARE * info.declared_duration_s)
    if info.declared_duration_s - end_s > tolerance_s:
        return "clip_truncated"
    return "clip_frames_missing" if lacks_frames else ""


def _shortfall_message(info: VideoInfo, frame_count: int, end_s: float) -> str:
    declared, lost = [], []
    if info.declared_frame_count:
        declared.append(f"{info.declared_frame_count} frames")
        lost.append(f"{max(0, info.declared_frame_count - frame_count)} frames")
    if info.declared_duration_s is not None:
        declared.append(f"{info.declared_duration_s:.2f} s")
        lost.append(f"{max(0.0, info.declared_duration_s - end_s):.2f} s")
    return (
        f"its header declares {' in '.join(declared)}, but {frame_count} frames in {end_s:.2f} s could be decoded; "
        f"those were used, {' and '.join(lost)} are lost; if the file was cut short, copy it again"
    )
