"""`visionyard dataset pull`: restore a dataset version from an object store."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

output = Console(highlight=False)


def pull_command(
    version: Annotated[str, typer.Argument(help="STORE@NAME:TAG or STORE@ID, such as s3://bucket/datasets@cones:v2.")],
    target: Annotated[Path, typer.Argument(help="A new folder.")],
    is_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Restore a dataset version to a folder: every byte is verified, and a pull that was stopped goes on."""
    from visionyard.cli.dataset.byte_progress import byte_progress
    from visionyard.data.versions import pull

    with byte_progress("pulling") as on_progress:
        report = pull(version, target, on_progress=on_progress)
    if is_json:
        output.print(json.dumps(report.to_json(), indent=1), markup=False, soft_wrap=True)
        return
    output.print(
        f"{report.folder}: {report.item_count:,} items, {report.fetched_item_count:,} of them fetched "
        f"({report.fetched_bytes / 1e6:,.1f} MB)",
        markup=False,
        soft_wrap=True,
    )
