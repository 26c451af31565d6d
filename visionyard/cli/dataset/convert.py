"""`visionyard dataset convert`: write data in another annotation format."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from visionyard.cli.dataset.opening import FormatOption, JsonOption, RateOption, SourceArgument, opened
from visionyard.cli.dataset.printing import print_problems

output = Console(highlight=False)


def convert_command(
    source: SourceArgument,
    *,
    target_format: Annotated[
        str,
        typer.Option("--to", help="coco, yolo, voc, cvat, folders, csv, tfrecord, label_studio or mask_pairs."),
    ],
    target: Annotated[Path, typer.Option("--out", help="A new folder.")],
    kind: FormatOption = "auto",
    rate_hz: RateOption = 2.0,
    is_json: JsonOption = False,
) -> None:
    """Write data in another annotation format; images byte for byte, splits kept, what is lost is told."""
    from visionyard.data.items import Problems
    from visionyard.data.writers import choose_target, refuse_filled, write_as

    chosen = choose_target(target_format)
    refuse_filled(target)
    problems = Problems()
    with opened(source, kind, rate_hz) as labelled:
        report = write_as(labelled, target, chosen, problems)
        found = labelled.problems
    if is_json:
        values = {
            **report.to_json(),
            "problems": [problem.to_json() for problem in problems.found],
            "source_problems": [problem.to_json() for problem in found],
        }
        typer.echo(json.dumps(values, indent=1, ensure_ascii=False))
        return
    boxes = f", {report.box_count:,} boxes" if labelled.task == "detection" else ""
    output.print(f"wrote {target}: {report.image_count:,} images{boxes} as {chosen.name}", markup=False, soft_wrap=True)
    print_problems(output, found, title="Found in the source")
    print_problems(output, problems.found, title="Not held by the format")
