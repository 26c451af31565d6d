"""`visionyard dataset gc`: delete what no version of a store refers to."""

import json
from typing import Annotated

import typer
from rich.console import Console

output = Console(highlight=False)


def gc_command(
    store: Annotated[str, typer.Argument(help="Where versions are kept: s3://bucket/datasets, or a folder.")],
    removed: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="NAME:TAG or ID", help="A version to remove first; may be repeated."),
    ] = None,
    is_deleting: Annotated[bool, typer.Option("--delete", help="Do it; without, only say what would be done.")] = False,
    grace_hours: Annotated[
        float, typer.Option(min=0, help="Hours from condemning a pack to deleting it; longer than any push takes.")
    ] = 24.0,
    is_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Condemn the packs that no version refers to, and delete those condemned a grace period ago."""
    from visionyard.data.versions import collect

    report = collect(store, removed=removed or [], is_dry=not is_deleting, grace_s=grace_hours * 3600)
    if is_json:
        output.print(json.dumps(report.to_json(), indent=1), markup=False, soft_wrap=True)
        return
    would = "would be " if report.is_dry else ""
    for version in report.removed_versions:
        output.print(f"version {version[:12]} {would}removed")
    for tag in report.removed_tags:
        output.print(f"tag {tag} {would}removed", markup=False)
    output.print(f"{report.kept_pack_count} packs are in use, {report.young_pack_count} too young to tell")
    output.print(
        f"{len(report.condemned)} packs {would}condemned; {report.condemned_bytes / 1e6:,.1f} MB wait for their end"
    )
    output.print(f"{len(report.deleted)} packs {would}deleted ({report.freed_bytes / 1e6:,.1f} MB)")
    if report.is_dry:
        output.print("nothing was changed; add --delete to do it")
    elif report.condemned_bytes:
        output.print(f"run it again in {grace_hours:g} hours to delete what is condemned")
