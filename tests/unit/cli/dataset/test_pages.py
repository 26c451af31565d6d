"""The pages name what there is: every kind that is read, every format that is written, every command."""

from pathlib import Path

import pytest

from visionyard.cli.dataset import dataset_app
from visionyard.data import formats, writers

DOCS = Path(__file__).parents[4] / "docs"


@pytest.mark.parametrize("kind", [*formats.FORMATS, "table"])
def test_every_kind_has_a_recipe(kind: str):
    page = (DOCS / "bring-your-data.md").read_text(encoding="utf-8")
    assert f": `{kind}`" in page  # a heading
    assert f"| `{kind}` |" in page  # a row of the table


@pytest.mark.parametrize("name", writers.FORMATS)
def test_every_format_out_is_told(name: str):
    assert f"| `{name}` |" in (DOCS / "dataset-commands.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [command.name for command in dataset_app.registered_commands])
def test_every_command_is_told(command: str):
    pages = [(DOCS / name).read_text(encoding="utf-8") for name in ("dataset-commands.md", "bring-your-data.md")]
    assert any(f"`{command}" in page or f"visionyard {command}" in page for page in pages)
