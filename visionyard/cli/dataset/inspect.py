"""`visionyard dataset inspect`: what a dataset version holds."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

output = Console(highlight=False)


def inspect_command(
    dataset: Annotated[Path, typer.Argument(help="A dataset version's folder.")],
    is_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a dataset version holds: its task, its classes, its items by split."""
    from visionyard.data.dataset import Dataset
    from visionyard.data.items import SPLITS

    version = Dataset(dataset)
    counts = {split: version.count(split) for split in SPLITS}
    if is_json:
        values = {"task": version.task, "classes": version.classes, "digest": version.digest, "item_counts": counts}
        output.print(json.dumps(values, indent=1, ensure_ascii=False), markup=False, soft_wrap=True)
        return
    table = Table(title=f"{dataset}: {version.task}", title_justify="left", box=None, pad_edge=False)
    for heading in ("Split", "Items"):
        table.add_column(heading, justify="left" if heading == "Split" else "right")
    for split, count in counts.items():
        table.add_row(split, f"{count:,}")
    output.print(table)
