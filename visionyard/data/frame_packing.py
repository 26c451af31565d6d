"""Pack the frames of clip after clip into shards, so that what stands in a closed shard is never packed again."""

from itertools import chain
from pathlib import Path
from typing import Any, Self

from visionyard.atomic import flush_to_disk
from visionyard.data.artifacts import IMAGES, SHARDS
from visionyard.data.clip_results import ClipResults, Packed
from visionyard.data.items import Clip, Item, read_json_lines, write_json_lines
from visionyard.data.shards import ShardWriter
from visionyard.data.tracks import boxes_at
from visionyard.video.records import KeptFrame

_PREFIX = "frames"


class FramePacker:
    """Writes shards and item lines, going on behind the closed shards of an ended try; a context manager."""

    def __init__(self, work: Path, results: ClipResults, *, shard_bytes: int) -> None:
        """Open the working folder.

        Args:
            work: The artifact's working folder.
            results: Of its clips.
            shard_bytes: As for `ShardWriter`.
        """
        self._work, self._results = work, results
        self._begun_at = results.packed
        self._lines: list[dict[str, Any]] = []
        self._shard = ""
        self._shards = ShardWriter(work / SHARDS, _PREFIX, shard_bytes=shard_bytes)
        self._shards.shard_count = self._begun_at.shard_count
        for folder in (work / SHARDS, results.lines_folder):
            for path in sorted(folder.iterdir())[self._begun_at.shard_count :]:
                path.unlink()  # not closed when the try ended

    def __enter__(self) -> Self:
        self._shards.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._shards.__exit__(*error)

    def add(self, number: int, clip: Clip, key: str, frames: tuple[KeptFrame, ...]) -> None:
        """Pack the kept frames of a clip, in the order of the clips.

        Args:
            number: Of the clip.
            clip: The clip.
            key: What the keys of its items begin with.
            frames: Its kept frames.
        """
        if number < self._begun_at.clip_number or not frames:
            return
        first = self._begun_at.frame_place if number == self._begun_at.clip_number else 0
        with self._results.images_path(number).open("rb") as images:
            for place, frame in enumerate(frames[first:], start=first):
                images.seek(frame.offset)
                item = self._item(clip, key, frame, images.read(frame.size))
                if item.blob.shard != self._shard:
                    self._close_shard(Packed(self._shards.shard_count - 1, number, place))
                    self._shard = item.blob.shard
                self._lines.append(item.to_json())

    def finish(self) -> int:
        """Write the item lines and return how many there are; nothing can be added any more."""
        if self._lines:
            self._write_lines()
        parts = [read_json_lines(path) for path in sorted(self._results.lines_folder.iterdir())]
        return write_json_lines(self._work / IMAGES, chain.from_iterable(parts))

    def _item(self, clip: Clip, key: str, frame: KeptFrame, jpeg: bytes) -> Item:
        frame_key = f"{key}-{frame.frame_index:06d}"
        is_tracked = clip.tracks is not None
        return Item(
            key=frame_key,
            source=clip.source,
            group=clip.group,
            sha256=frame.sha256,
            width=frame.width,
            height=frame.height,
            blob=self._shards.add(f"{frame_key}.jpg", jpeg),
            class_name=clip.class_name,
            boxes=boxes_at(clip.tracks or (), frame.frame_index, frame.width, frame.height) if is_tracked else None,
            timestamp_s=frame.timestamp_s,
            published_split=clip.published_split,
        )

    def _close_shard(self, packed: Packed) -> None:
        if self._lines:
            # The JPEGs that it was made of go now; a machine that loses power must not take it along.
            for path in (self._write_lines(), self._work / SHARDS / self._shard):
                flush_to_disk(path)
            self._results.note_packed(packed)

    def _write_lines(self) -> Path:
        path = self._results.lines_folder / f"{Path(self._shard).stem}.jsonl"
        write_json_lines(path, self._lines)
        self._lines = []
        return path
