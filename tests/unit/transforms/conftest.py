"""What the tests of transforms share."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest


@pytest.fixture(scope="session")
def ultralytics() -> Callable[..., Any]:
    """Return the door to Ultralytics; skips where it is absent, without importing it past its switches."""
    if find_spec("ultralytics") is None:
        pytest.skip("needs the extra yolo")
    from visionyard.models.yolo.environment import load_ultralytics

    return load_ultralytics
