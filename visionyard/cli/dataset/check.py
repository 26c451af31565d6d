"""`visionyard dataset check`: the health check alone."""

import json
from typing import Annotated

import typer
from rich.console import Console

from visionyard.cli.dataset.opening import (
    FormatOption,
    JsonOption,
    RateOption,
    SourceArgument,
    is_version_path,
    opened,
    staged,
)
from visionyard.cli.dataset.printing import print_problems

output = Console(highlight=False)


def check_command(
    source: SourceArgument,
    *,
    kind: FormatOption = "auto",
    rate_hz: RateOption = 2.0,
    is_strict: Annotated[bool, typer.Option("--strict", help="Advice, too, ends with exit code 1.")] = False,
    is_json: JsonOption = False,
) -> None:
    """Read every image and label and list what is wrong; exit code 1 when something was lost or contradicts.

    Advice (classes out of balance, tiny or unlabelled images, images that are there twice) ends with 0.
    """
    from visionyard.data.inspection.checking import ADVICE_CODES, check_stages, check_version

    if is_version_path(source, kind):
        with opened(source, kind, rate_hz) as labelled:
            report = check_version(labelled)
    else:
        with staged(source, kind, rate_hz) as (sources, frames):
            report = check_stages(sources, frames)
    if is_json:
        typer.echo(json.dumps(report.to_json(), indent=1, ensure_ascii=False))
    else:
        output.print(
            f"{source}: {report.usable_count:,} of {report.item_count:,} images can be used, "
            f"{report.serious_count:,} problems",
            markup=False,
            soft_wrap=True,
        )
        advice = [problem for problem in report.problems if problem.code in ADVICE_CODES]
        serious = [problem for problem in report.problems if problem.code not in ADVICE_CODES]
        print_problems(output, serious, title="Problems")
        print_problems(output, advice, title="Advice")
    if report.serious_count or (is_strict and report.problems):
        raise typer.Exit(1)
