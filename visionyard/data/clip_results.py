"""What became of each clip, kept on disk as soon as it is known: a killed `extract_frames` goes on with the others.

clips/NNNNNN.json    the outcome of a clip
clips/NNNNNN.images  its JPEGs, one after another, until they stand in a shard that is closed
lines/SHARD.jsonl    the items of a shard that is closed
packed.json          how far the shards are closed
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from visionyard.atomic import write_atomic
from visionyard.digests import sha256_bytes
from visionyard.video.pool import Outcome
from visionyard.video.records import ClipExtraction


@dataclass(frozen=True)
class ClipResult:
    """What became of a clip: an extraction, or the code and the message of why there is none."""

    extraction: ClipExtraction | None
    code: str = ""
    message: str = ""


@dataclass(frozen=True)
class Packed:
    """How far the closed shards reach.

    Attributes:
        shard_count: Closed shards.
        clip_number: The clip of the first frame that stands in none of them.
        frame_place: Its place among the clip's kept frames.
    """

    shard_count: int = 0
    clip_number: int = 0
    frame_place: int = 0


class ClipResults:
    """The results of the clips of one extraction, by their number.

    Attributes:
        known_numbers: Clips whose result an ended try has left.
        lines_folder: Where the items of closed shards are kept.
    """

    def __init__(self, folder: Path) -> None:
        """Open a working folder, new or of an ended try.

        Args:
            folder: Where `clips`, `lines` and `packed.json` are.
        """
        self._packed_path = folder / "packed.json"
        self._folder = folder / "clips"
        self.lines_folder = folder / "lines"
        for each in (self._folder, self.lines_folder):
            each.mkdir(exist_ok=True)
        for unfinished in {*self._folder.iterdir()} - {*self._folder.glob("*.json"), *self._folder.glob("*.images")}:
            unfinished.unlink()
        numbers = sorted(int(path.stem) for path in self._folder.glob("*.json"))
        first = self.packed.clip_number
        self.known_numbers = frozenset(number for number in numbers if number < first or self._is_whole(number))

    def _is_whole(self, number: int) -> bool:
        """Return whether the JPEGs of a result are all there: a machine that lost power may have lost them."""
        extraction = self.read(number).extraction
        if extraction is None:
            return True
        path = self.images_path(number)
        if not path.exists():
            return False
        with path.open("rb") as images:
            for frame in extraction.frames:
                images.seek(frame.offset)
                if sha256_bytes(images.read(frame.size)) != frame.sha256:
                    return False
        return True

    def scratch_path(self, number: int, ending: str) -> Path:
        """Return a path for a file of a clip whose result is not known yet."""
        return self._folder / f"{number:06d}.{ending}.partial"

    def images_path(self, number: int) -> Path:
        """Return where the JPEGs of a clip are, once its result is known."""
        return self._folder / f"{number:06d}.images"

    def keep(self, outcome: Outcome) -> None:
        """Keep what became of a clip that was read from and written to scratch paths; its file is removed."""
        number = int(outcome.request.images_path.name.partition(".")[0])
        if outcome.extraction is not None:
            outcome.request.images_path.replace(self.images_path(number))
        extraction = outcome.extraction and outcome.extraction.to_json()
        values = {"extraction": extraction, "code": outcome.code, "message": outcome.message}
        write_atomic(self._folder / f"{number:06d}.json", json.dumps(values))
        outcome.request.path.unlink(missing_ok=True)

    def read(self, number: int) -> ClipResult:
        """Return a result that was kept."""
        values: dict[str, Any] = json.loads((self._folder / f"{number:06d}.json").read_text(encoding="utf-8"))
        extraction = values["extraction"] and ClipExtraction.from_json(values["extraction"])
        return ClipResult(extraction, values["code"], values["message"])

    @property
    def packed(self) -> Packed:
        """How far the closed shards reach."""
        if not self._packed_path.exists():
            return Packed()
        return Packed(**json.loads(self._packed_path.read_text(encoding="ascii")))

    def note_packed(self, packed: Packed) -> None:
        """Note that shards are closed; the JPEGs of the clips that stand wholly in them are removed."""
        first = self.packed.clip_number
        write_atomic(self._packed_path, json.dumps(asdict(packed)))
        for number in range(first, packed.clip_number):
            self.images_path(number).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove everything, when it has become an artifact."""
        # First, so that what is half removed is not believed to be whole.
        self._packed_path.unlink(missing_ok=True)
        for folder in (self._folder, self.lines_folder):
            shutil.rmtree(folder)
