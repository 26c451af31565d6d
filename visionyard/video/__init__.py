"""Video: probing, decoding in presentation order, sampling by time, and a decoder process that may die alone."""

from visionyard.video.decoding import DecodedFrame, VideoReader
from visionyard.video.extraction import ClipExtraction, ExtractionSettings, KeptFrame, extract_clip
from visionyard.video.pool import DecoderPool, Outcome
from visionyard.video.probe import VideoInfo, probe_video
from visionyard.video.sampling import every, shown_at, thin_evenly

__all__ = [
    "ClipExtraction",
    "DecodedFrame",
    "DecoderPool",
    "ExtractionSettings",
    "KeptFrame",
    "Outcome",
    "VideoInfo",
    "VideoReader",
    "every",
    "extract_clip",
    "probe_video",
    "shown_at",
    "thin_evenly",
]
