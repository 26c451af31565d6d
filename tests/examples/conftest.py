"""The tiny bundles, which are made beside the unit tests."""

import importlib.util
from pathlib import Path
from types import ModuleType


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_fixtures", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_unit = _load(Path(__file__).parent.parent / "unit" / "conftest.py")
tiny_dataset, tiny_model, tiny_bundle = _unit.tiny_dataset, _unit.tiny_model, _unit.tiny_bundle
