"""The browser example behind a web server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.browser_example import RUNTIME, RUNTIME_FILES, Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[[Path], Site]]:
    """Return a function that puts a bundle into the example and serves both."""
    if not all((RUNTIME / name).exists() for name in RUNTIME_FILES):
        pytest.skip("needs ONNX Runtime Web: run `npm ci` in examples/browser")
    started: list[Site] = []

    def serve(bundle: Path) -> Site:
        started.append(Site(tmp_path / f"site{len(started)}", bundle))
        return started[-1]

    yield serve
    for one in started:
        one.cut_off()
