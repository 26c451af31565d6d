"""The memory that a decoder process may have."""

import pytest

from visionyard.stage_resources import StageResources
from visionyard.video import process
from visionyard.video.process import memory_limit_bytes, out_of_memory_text


@pytest.mark.parametrize(
    ("held_gib", "most_gib"),
    [
        pytest.param(0, 6, id="no limit"),
        pytest.param(64, 6, id="plenty"),
        pytest.param(8, 6, id="just enough"),
        pytest.param(2, 1.5, id="a small container"),
    ],
)
def test_one_clip_leaves_memory_to_the_container(
    held_gib: int, most_gib: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "held_resources", lambda: StageResources(memory_bytes=held_gib << 30))
    assert memory_limit_bytes() == most_gib * (1 << 30)
    assert out_of_memory_text(memory_limit_bytes()) == f"decoding it takes more than {most_gib:g} GiB of memory"
