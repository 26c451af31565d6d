"""What several test folders share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Return a function from a data set's name to its folder, which skips the test where it is absent."""
    root = Path(os.environ.get("VISIONYARD_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))

    def find(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            pytest.skip(f"needs the real data set {name} in {root} (set VISIONYARD_SHARED_DATA)")
        return folder

    return find
