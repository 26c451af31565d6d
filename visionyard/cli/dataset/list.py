"""`visionyard dataset list`: the versions of a store."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

output = Console(highlight=False)


def list_command(
    store: Annotated[str, typer.Argument(help="Where versions are kept: s3://bucket/datasets, or a folder.")],
    is_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the dataset versions of a store, the newest last."""
    from visionyard.data.versions import list_store

    versions = list_store(store)
    if is_json:
        values = [version.to_json() for version in versions]
        output.print(json.dumps(values, indent=1, ensure_ascii=False), markup=False, soft_wrap=True)
        return
    if not versions:
        output.print(f"{store}: no versions; `visionyard dataset push FOLDER {store}` makes one", soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("Version", "Tags", "Task", "Items", "MB", "Pushed"):
        table.add_column(heading, justify="right" if heading in {"Items", "MB"} else "left", no_wrap=True)
    for version in versions:
        table.add_row(
            version.version[:12],
            " ".join(version.tags),
            version.task,
            f"{sum(version.item_counts.values()):,}",
            f"{version.size_bytes / 1e6:,.1f}",
            version.pushed_at,
        )
    output.print(table)
