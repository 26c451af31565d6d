"""`visionyard dataset check`: the health check alone."""

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from visionyard.cli.dataset.opening import (
    FormatOption,
    JsonOption,
    RateOption,
    SourceArgument,
    TargetOption,
    is_version_path,
    opened,
    opened_table,
    shown,
    staged,
)
from visionyard.cli.dataset.printing import counted, print_problems

if TYPE_CHECKING:
    from visionyard.data.inspection.checking import CheckReport

output = Console(highlight=False)


def check_command(
    source: SourceArgument,
    *,
    kind: FormatOption = "auto",
    rate_hz: RateOption = 2.0,
    is_strict: Annotated[bool, typer.Option("--strict", help="Advice, too, ends with exit code 1.")] = False,
    target: TargetOption = "",
    is_json: JsonOption = False,
) -> None:
    """Read every image and label and list what is wrong; exit code 1 when something was lost or contradicts.

    Advice (classes out of balance, tiny or unlabelled images, images that are there twice) ends with 0.
    """
    unit = "row"
    with opened_table(source, kind, target) as table:
        if table is not None:
            from visionyard.data.inspection.tables import check_table

            report = check_table(table)
        else:
            report, unit = _check_images(source, kind, rate_hz), "image"
    if is_json:
        typer.echo(json.dumps(report.to_json(), indent=1, ensure_ascii=False))
    else:
        _print(source, report, unit)
    if report.serious_count or (is_strict and report.problems):
        raise typer.Exit(1)


def _check_images(source: str, kind: str, rate_hz: float) -> "CheckReport":
    from visionyard.data.inspection.checking import check_stages, check_version

    if is_version_path(source, kind):
        with opened(source, kind, rate_hz) as labelled:
            return check_version(labelled)
    with staged(source, kind, rate_hz) as (sources, frames):
        return check_stages(sources, frames)


def _print(source: str, report: "CheckReport", unit: str) -> None:
    from visionyard.data.inspection.checking import ADVICE_CODES

    usable = f"{report.usable_count:,} of {counted(report.item_count, unit)} can be used"
    output.print(f"{shown(source)}: {usable}, {counted(report.serious_count, 'problem')}", markup=False, soft_wrap=True)
    advice = [problem for problem in report.problems if problem.code in ADVICE_CODES]
    serious = [problem for problem in report.problems if problem.code not in ADVICE_CODES]
    print_problems(output, serious, title="Problems")
    print_problems(output, advice, title="Advice")
