"""What a training settles by itself."""

import pytest

from visionyard.stage_resources import StageResources
from visionyard.training import plan


@pytest.mark.parametrize(
    ("wanted", "device", "cpu_count", "expected"),
    [
        pytest.param(-1, "cpu", 16.0, 0, id="the CPU trains"),
        pytest.param(-1, "cuda:0", 64.0, 8, id="many cores"),
        pytest.param(-1, "cuda:0", 4.0, 3, id="one core is left to the training"),
        pytest.param(-1, "cuda:0", 1.5, 1, id="a container of one and a half"),
        pytest.param(5, "cpu", 1.0, 5, id="told"),
        pytest.param(0, "cuda:0", 64.0, 0, id="told none"),
    ],
)
def test_loader_processes_fit_the_cores_of_the_container(
    wanted: int, device: str, cpu_count: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "held_resources", lambda: StageResources(cpu_count=cpu_count))
    assert plan.choose_loader_workers(wanted, device) == expected
