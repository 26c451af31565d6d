"""`visionyard dataset diff`: what differs between two versions."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from visionyard.cli.dataset.opening import FormatOption, JsonOption, RateOption, opened
from visionyard.cli.dataset.printing import columns

if TYPE_CHECKING:
    from visionyard.data.inspection.difference import Change, Difference

output = Console(highlight=False)
_SHOWN_SOURCES = 5
_UNITS = {"detection": "boxes", "classification": "images", "semantic_segmentation": "pixels"}


def diff_command(
    first: Annotated[str, typer.Argument(help="A dataset version's folder, or raw input.", metavar="BEFORE")],
    second: Annotated[str, typer.Argument(help="Likewise: what it became.", metavar="AFTER")],
    *,
    kind: FormatOption = "auto",
    rate_hz: RateOption = 2.0,
    is_exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 when they differ.")] = False,
    is_json: JsonOption = False,
) -> None:
    """Say what differs: images added, removed, relabelled (by class) and moved between splits."""
    from visionyard.data.inspection.difference import compare

    with opened(first, kind, rate_hz) as before, opened(second, kind, rate_hz) as after:
        difference = compare(before, after)
        unit = _UNITS[before.task]
    if is_json:
        typer.echo(json.dumps(difference.to_json(), indent=1, ensure_ascii=False))
    else:
        _print(difference, unit)
    if is_exit_code and not difference.is_empty:
        raise typer.Exit(1)


def _print(difference: "Difference", unit: str) -> None:
    if difference.is_empty:
        output.print(f"no difference: {difference.same_count:,} images with the same labels and splits")
        return
    table = columns("Images", "Count", "", title="Images")
    table.add_row("the same", f"{difference.same_count:,}", "")
    table.add_row("added", f"{sum(difference.added.values()):,}", _by_split(difference.added))
    table.add_row("removed", f"{sum(difference.removed.values()):,}", _by_split(difference.removed))
    table.add_row("relabelled", f"{difference.relabelled_count:,}", "")
    moved = sum(change.count for change in difference.split_changes)
    told = ", ".join(f"{change.before} to {change.after}: {change.count:,}" for change in difference.split_changes)
    table.add_row("in another split", f"{moved:,}", told)
    output.print(table)
    for what, names in (("added", difference.classes_added), ("removed", difference.classes_removed)):
        if names:
            output.print(f"classes {what}: {', '.join(names)}", markup=False, soft_wrap=True)
    _print_classes(difference, unit)
    for what, sources in (
        ("Added", difference.added_sources),
        ("Removed", difference.removed_sources),
        ("Relabelled", difference.relabelled_sources),
    ):
        _print_sources(what, sources)


def _print_classes(difference: "Difference", unit: str) -> None:
    if not difference.class_changes and not difference.moved:
        return
    table = columns("Change", unit.capitalize(), title=f"\nLabels, by class, in {unit}")
    for change in difference.class_changes:
        table.add_row(_told(change), f"{change.count:,}")
    for name, count in difference.moved.items():
        table.add_row(f"{escape(name)}: box or mask changed", f"{count:,}")
    output.print(table)


def _told(change: "Change") -> str:
    if not change.before:
        return f"{escape(change.after)}: added"
    return f"{escape(change.before)} to {escape(change.after)}" if change.after else f"{escape(change.before)}: removed"


def _by_split(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{split}: {count:,}" for split, count in counts.items())


def _print_sources(what: str, sources: Sequence[str]) -> None:
    if sources:
        more = len(sources) - _SHOWN_SOURCES
        shown = ", ".join(sources[:_SHOWN_SOURCES]) + (f" and {more:,} more (all in --json)" if more > 0 else "")
        output.print(f"{what}: {shown}", markup=False, soft_wrap=True)
