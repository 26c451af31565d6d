"""`visionyard dataset audit`: whether anything of one split can be seen in another."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from visionyard.cli.dataset.opening import (
    FormatOption,
    JsonOption,
    RateOption,
    SourceArgument,
    is_version_path,
    shown,
    staged,
)
from visionyard.cli.dataset.printing import columns
from visionyard.errors import ConfigError

output = Console(highlight=False)
_SHOWN_PAIRS = 10
_KINDS = {"group": "same group", "identical": "identical image", "near_duplicate": "look alike"}


def audit_command(
    source: SourceArgument,
    *,
    kind: FormatOption = "auto",
    rate_hz: RateOption = 2.0,
    group_pattern: Annotated[
        str, typer.Option("--group-pattern", help="Of raw input: which images are of one group, as data.group_pattern.")
    ] = "",
    leak_budget: Annotated[
        float,
        typer.Option("--budget", min=0, max=1, help="Share of val and test that may look like one of another split."),
    ] = 0.01,
    split_file: Annotated[
        str,
        typer.Option("--split-file", help="CSV of names and splits, as data.split_file: audited before it is used."),
    ] = "",
    is_json: JsonOption = False,
) -> None:
    """Say whether anything of one split can be seen in another; exit code 1 when it can.

    Of raw input the published split is audited; without one, groups and pairs are told all the same. With --split-file
    the splits of that file are, for the names it holds.
    """
    from visionyard.data.dataset import Dataset
    from visionyard.data.leaks.dataset_audit import audit_dataset, audit_sources

    if is_version_path(source, kind):
        if group_pattern:
            raise ConfigError(f"--group-pattern {group_pattern}: {source} is a dataset version, which has its groups")
        certificate = audit_dataset(Dataset(Path(source)), leak_budget=leak_budget, split_file=split_file)
    else:
        with staged(source, kind, rate_hz, group_pattern=group_pattern) as (sources, _):
            certificate = audit_sources(sources, leak_budget=leak_budget, split_file=split_file)
    values = certificate.to_json()
    if is_json:
        told = {"leaky": values["is_leaky"], "pairs": values["examples"], "groups": values["clusters"]}
        typer.echo(json.dumps({**told, "certificate": values}, indent=1, ensure_ascii=False))
    else:
        _print(source, values)
    if values["is_leaky"]:
        raise typer.Exit(1)


def _print(source: str, values: Mapping[str, Any]) -> None:
    from visionyard.data.leaks.audit import leak_summary

    verdict = "[red]the split leaks[/red]" if values["is_leaky"] else "[green]no leak found[/green]"
    summary = f"; {escape(leak_summary(values))}" if values["is_leaky"] else ""
    output.print(f"{escape(shown(source))}: {verdict}{summary}", soft_wrap=True)
    table = columns("In two splits", "Count", title="")
    table.add_row("groups (clips, scenes)", f"{values['group_overlap']:,}")
    table.add_row("pairs of identical images", f"{values['identical_images']:,}")
    table.add_row("pairs that look alike", f"{values['near_duplicate_pairs']:,}")
    alike = f"{values['near_duplicate_items']:,} of {values['held_out_items']:,}"
    table.add_row("images of val and test that look like one of another split", alike)
    output.print(table)
    pairs = values["examples"]
    if pairs:
        examples = columns("Pair", "", "", title="\nFor example")
        for pair in pairs[:_SHOWN_PAIRS]:
            examples.add_row(_KINDS.get(pair["kind"], pair["kind"]), _place(pair["first"]), _place(pair["second"]))
        output.print(examples)


def _place(side: Mapping[str, Any]) -> str:
    time = "" if side["timestamp_s"] is None else f" at {side['timestamp_s']:.1f} s"
    return escape(f"{side['split']}: {side['source']}{time}")
