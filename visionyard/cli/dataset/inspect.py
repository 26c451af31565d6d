"""`visionyard dataset inspect`: what data holds, as tables, as JSON, as a page."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from visionyard.cli.dataset.opening import (
    FormatOption,
    JsonOption,
    RateOption,
    SourceArgument,
    TargetOption,
    opened,
    opened_table,
)
from visionyard.cli.dataset.printing import columns, print_problems
from visionyard.cli.dataset.tables import tell_table
from visionyard.errors import ConfigError

if TYPE_CHECKING:
    from visionyard.data.inspection import Inspection
    from visionyard.data.inspection.histogram import Histogram

output = Console(highlight=False)
# From lowest to highest: how a row of columns is drawn with letters.
_LEVELS = " ▁▂▃▄▅▆▇█"
_SHADES = " ░▒▓█"
_SHOWN_SIZES = 4


def inspect_command(
    source: SourceArgument,
    *,
    kind: FormatOption = "auto",
    rate_hz: RateOption = 2.0,
    looked_at: Annotated[
        int, typer.Option("--look-at", min=0, help="Images decoded for brightness and sharpness, spread evenly.")
    ] = 2000,
    page: Annotated[
        Path | None, typer.Option("--html", help="Also write a page with charts and pictures, without network.")
    ] = None,
    target: TargetOption = "",
    is_json: JsonOption = False,
) -> None:
    """Say what data holds: classes by split, boxes, image sizes, brightness and blur; with --html also in pictures."""
    from visionyard.data.inspection import inspect_images

    with opened_table(source, kind, target) as table:
        if table is not None:
            if page is not None:
                raise ConfigError(f"--html {page}: {table.label} is a table, which has no pictures; leave it out")
            tell_table(table, is_json=is_json)
            return
    with opened(source, kind, rate_hz) as labelled:
        inspection = inspect_images(labelled, looked_at=looked_at)
        if page is not None:
            from visionyard.data.inspection.page import write_inspection_page

            write_inspection_page(page, labelled, inspection)
        if is_json:
            typer.echo(json.dumps(inspection.to_json(), indent=1, ensure_ascii=False, allow_nan=False))
            return
        _print(inspection)
        print_problems(output, labelled.problems, title="Problems found on the way here")
    if page is not None:
        output.print(f"\nwrote {page}", markup=False, soft_wrap=True)


def _print(inspection: "Inspection") -> None:
    boxes = f", {inspection.box_count:,} boxes" if inspection.task == "detection" else ""
    output.print(
        f"{inspection.label}: {inspection.task}, {inspection.item_count:,} images{boxes}, "
        f"{len(inspection.classes)} classes",
        markup=False,
        soft_wrap=True,
    )
    if inspection.unlabelled_count:
        output.print(f"{inspection.unlabelled_count:,} images have no label", style="yellow")
    output.print(_splits(inspection))
    output.print(_classes(inspection))
    output.print(_distributions(inspection))
    if inspection.coverage:
        output.print("\nWhere boxes lie in their image")
        for row in _map(inspection.coverage):
            output.print(f"  {row}", markup=False)


def _splits(inspection: "Inspection") -> Table:
    table = columns("Split", "Images", "Groups", title="\nSplits")
    for split, count in inspection.items.items():
        table.add_row(split, f"{count:,}", f"{inspection.groups[split]:,}")
    return table


def _classes(inspection: "Inspection") -> Table:
    unit = {"detection": "boxes", "semantic_segmentation": "pixels"}.get(inspection.task, "items")
    is_detection = inspection.task == "detection"
    splits = list(inspection.items)
    headings = [
        "Class",
        *splits,
        "Share",
        *(["Images"] if unit != "items" else []),
        *(["Median side px"] * is_detection),
    ]
    table = columns(*headings, title=f"\n{unit.capitalize() if unit != 'items' else 'Images'} by class and split")
    counts: list[Mapping[str, int]] = [getattr(one, unit) for one in inspection.classes]
    whole = max(1, sum(sum(one.values()) for one in counts))
    for one, by_split in zip(inspection.classes, counts, strict=True):
        row = [escape(one.name), *(f"{by_split[split]:,}" for split in splits), f"{sum(by_split.values()) / whole:.1%}"]
        row += [f"{sum(one.items.values()):,}"] if unit != "items" else []
        median = one.side_px.quantile(0.5)
        row += ["-" if median is None else f"{median:.0f}"] if is_detection else []
        table.add_row(*row)
    return table


def _distributions(inspection: "Inspection") -> Table:
    table = columns("Distribution", "Lowest 5 %", "Median", "Highest 5 %", "", title="\nImages and boxes")
    looks = inspection.looks
    sides = map(str, inspection.image_side_quantiles_px)
    table.add_row("longer side, px", *sides, _columns_of(inspection.image_sides_px))
    rows: list[tuple[str, Histogram]] = [
        ("brightness, 0 to 255", looks.brightness),
        ("sharpness, log10", looks.sharpness),
        ("side of a box, px", inspection.box_sides_px),
    ]
    for name, histogram in rows:
        quantiles = [histogram.quantile(share) for share in (0.05, 0.5, 0.95)]
        if None not in quantiles:
            figures = [f"{value:.4g}" for value in quantiles if value is not None]
            table.add_row(name, *figures, _columns_of(histogram))
    each = inspection.boxes_per_image
    whole = [each.quantile(share) for share in (0.05, 0.5, 0.95)]
    if None not in whole:
        table.add_row(
            "boxes in an image", *(str(int(value)) for value in whole if value is not None), _columns_of(each)
        )
    sizes = ", ".join(f"{width}x{height} ({count:,})" for width, height, count in inspection.image_sizes[:_SHOWN_SIZES])
    more = inspection.image_size_count - _SHOWN_SIZES
    table.caption = f"Sizes: {sizes}{f' and {more:,} more' if more > 0 else ''}"
    table.caption_justify = "left"
    return table


def _columns_of(histogram: "Histogram") -> str:
    """Return the bins that hold something, and those between, as a row of columns."""
    counts = histogram.counts
    filled = [place for place, count in enumerate(counts) if count]
    most = max(counts)
    shown = counts[filled[0] : filled[-1] + 1]
    return "".join(_LEVELS[-(-count * (len(_LEVELS) - 1) // most)] for count in shown)


def _map(coverage: tuple[tuple[float, ...], ...]) -> list[str]:
    """Return the grid as letters, two rows of it in one line, since a letter is twice as high as wide."""
    most = max(max(row) for row in coverage) or 1.0
    pairs = zip(coverage[::2], coverage[1::2], strict=True)
    return [
        "".join(
            _SHADES[round((upper + lower) / 2 / most * (len(_SHADES) - 1))] for upper, lower in zip(*pair, strict=True)
        )
        for pair in pairs
    ]
