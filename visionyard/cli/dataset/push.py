"""`visionyard dataset push`: put a dataset version into an object store."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

output = Console(highlight=False)


def push_command(
    dataset: Annotated[Path, typer.Argument(help="A dataset version's folder.")],
    store: Annotated[str, typer.Argument(help="Where versions are kept: s3://bucket/datasets, or a folder.")],
    tag: Annotated[str, typer.Option(help="Name it: name:tag, such as cones:v2.")] = "",
    is_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Push a dataset version: only what the store lacks is sent, and a push that was stopped goes on."""
    from visionyard.cli.dataset.byte_progress import byte_progress
    from visionyard.data.versions import push

    with byte_progress("pushing") as on_progress:
        report = push(dataset, store, tag=tag, on_progress=on_progress)
    if is_json:
        output.print(json.dumps(report.to_json(), indent=1), markup=False, soft_wrap=True)
        return
    named = report.tag or report.version[:12]
    output.print(
        f"{report.item_count:,} items, {report.new_item_count:,} of them new; {report.sent_bytes / 1e6:,.1f} MB sent "
        f"in {report.object_count} objects",
        soft_wrap=True,
    )
    output.print(f"  visionyard dataset pull {report.store}@{named} FOLDER", markup=False, soft_wrap=True)
