"""`visionyard dataset prelabel`: a labelling task that a model has begun."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from visionyard.cli.dataset.opening import JsonOption
from visionyard.cli.dataset.printing import print_problems

output = Console(highlight=False)


def prelabel_command(
    bundle: Annotated[Path, typer.Argument(help="A model bundle's folder.")],
    paths: Annotated[list[Path], typer.Argument(help="Images, videos, folders of them.", metavar="IMAGES...")],
    *,
    tool: Annotated[str, typer.Option("--to", help="cvat or label_studio.")],
    target: Annotated[Path, typer.Option("--out", help="A new folder.")],
    confidence: Annotated[
        float | None, typer.Option(help="Suggest nothing less sure than this, 0 to 1; default: the model's own.")
    ] = None,
    rate_hz: Annotated[float, typer.Option("--rate-hz", help="Frames of a video taken per second.")] = 1.0,
    model_format: Annotated[str, typer.Option("--format", help="Format of the bundle; empty: the fastest.")] = "",
    is_json: JsonOption = False,
) -> None:
    """Let a model label images for CVAT or Label Studio, so that a person corrects rather than draws."""
    from visionyard.cli.predict import check_options
    from visionyard.data.items import Problems
    from visionyard.errors import ConfigError

    check_options(confidence=confidence, rate_hz=rate_hz)
    from visionyard.inference import Predictor
    from visionyard.inference.bundle import Bundle
    from visionyard.inference.prelabels import TOOLS, write_prelabels

    chosen = next((name for name in TOOLS if name == tool), None)
    if chosen is None:
        raise ConfigError(f"--to {tool!r}: expected {' or '.join(TOOLS)}")
    problems, opened = Problems(), Bundle.open(bundle)
    with Predictor.from_bundle(bundle, model_format or None) as predictor:
        report = write_prelabels(
            predictor,
            paths,
            target,
            tool=chosen,
            model=f"{opened.manifest.name} {opened.digest[:12]}",
            confidence_threshold=confidence,
            rate_hz=rate_hz,
            problems=problems,
        )
    if is_json:
        values = {**report.to_json(), "problems": [problem.to_json() for problem in problems.found]}
        typer.echo(json.dumps(values, indent=1, ensure_ascii=False))
        return
    boxes = f", {report.box_count:,} boxes" if report.box_count else ""
    output.print(
        f"wrote {target}: {report.image_count:,} images{boxes}; {report.blank_count:,} without a suggestion",
        markup=False,
        soft_wrap=True,
    )
    print_problems(output, problems.found, title="Left out")
