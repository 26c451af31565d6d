"""A model of a fixed batch size takes batches of any size, and no image sees another's zeros."""

import numpy as np
import pytest

from visionyard.inference.backend_support import in_fixed_batches


@pytest.mark.parametrize(
    ("count", "size", "calls"),
    [
        pytest.param(5, 2, [2, 2, 2], id="last_one_filled"),
        pytest.param(4, 2, [2, 2], id="even"),
        pytest.param(1, 4, [4], id="smaller_than_the_batch"),
        pytest.param(3, 1, [1, 1, 1], id="one_by_one"),
        pytest.param(0, 2, [2], id="none"),
        pytest.param(3, None, [3], id="free"),
    ],
)
def test_batches_of_any_size(count: int, size: int | None, calls: list[int]) -> None:
    seen = []

    def run(batch: np.ndarray) -> list[np.ndarray]:
        seen.append(len(batch))
        return [batch * 2, batch[:, :1] + 1]

    batch = np.arange(count * 3, dtype=np.float32).reshape(count, 3)

    double, first = in_fixed_batches(run, batch, size)

    assert seen == calls
    np.testing.assert_array_equal(double, batch * 2)
    np.testing.assert_array_equal(first, batch[:, :1] + 1)
