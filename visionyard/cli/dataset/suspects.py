"""`visionyard dataset suspects`: labels and images that a person should look at."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from visionyard.cli.dataset.opening import JsonOption, shown
from visionyard.cli.dataset.printing import columns, counted
from visionyard.errors import ConfigError

if TYPE_CHECKING:
    from visionyard.data.dataset import Dataset
    from visionyard.data.quality import SuspectReport

output = Console(highlight=False)
_SHOWN_OF_A_KIND = 5


def suspects_command(
    version: Annotated[
        str, typer.Argument(help="A dataset version's folder; may be left out with --run.", metavar="[DATA]")
    ] = "",
    *,
    run: Annotated[
        str, typer.Option("--run", help="A run (folder, <name>-<n> or <name>) whose model judges the labels.")
    ] = "",
    image_size_px: Annotated[
        int, typer.Option("--image-size-px", min=16, help="Side of the model's input, for objects too small for it.")
    ] = 640,
    page: Annotated[
        Path | None, typer.Option("--html", help="Also write a page with the places drawn, without network.")
    ] = None,
    is_strict: Annotated[bool, typer.Option("--strict", help="Anything suspicious ends with exit code 1.")] = False,
    is_json: JsonOption = False,
    runs: Annotated[Path, typer.Option("--runs", help="Folder that holds all runs.", envvar="VISIONYARD_RUNS")] = Path(
        "runs"
    ),
) -> None:
    """List what is most likely wrong in a dataset version, and with --run the labels that its model contradicts."""
    from visionyard.data.quality.survey import find_suspects

    judged = _judged(run, runs) if run else None
    if version:
        dataset = _opened(version)
        report = find_suspects(dataset, image_size_px=image_size_px)
        if judged is not None:
            report = _together(report, dataset, *judged)
    elif judged is not None:
        dataset, report = judged
    else:
        raise ConfigError("dataset suspects: name a dataset version's folder, a run by --run, or both")
    if page is not None:
        from visionyard.data.quality.page import write_suspects_page

        write_suspects_page(page, dataset, report)
    if is_json:
        typer.echo(json.dumps(report.to_json(), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        _print(report)
        if page is not None:
            output.print(f"\nwrote {page}", markup=False, soft_wrap=True)
    if is_strict and not report.is_clean:
        raise typer.Exit(1)


def _opened(version: str) -> "Dataset":
    from visionyard.data.dataset import Dataset
    from visionyard.data.labelled import is_version

    if "://" in version or not is_version(Path(version)):
        raise ConfigError(
            f"{shown(version)}: expected the folder of a dataset version, with dataset.json; `visionyard dataset pull` "
            "fetches one from a store, and `visionyard dataset check` looks at raw input"
        )
    return Dataset(Path(version))


def _judged(name: str, runs: Path) -> "tuple[Dataset, SuspectReport]":
    """Return the dataset version of a run and the labels that its model contradicts."""
    from visionyard.cli.run_folder import find_run
    from visionyard.data.dataset import Dataset
    from visionyard.evaluation.label_errors import judge_labels

    folder = find_run(runs, name).path
    dataset = Dataset(folder / "dataset")
    return dataset, judge_labels(folder / "evaluation", dataset)


def _together(
    report: "SuspectReport", dataset: "Dataset", judged_dataset: "Dataset", judged: "SuspectReport"
) -> "SuspectReport":
    from visionyard.data.quality.suspects import in_order

    if dataset.digest != judged_dataset.digest:
        raise ConfigError(
            f"{dataset.folder}: it is the version {dataset.digest[:12]}..., the run learnt from "
            f"{judged_dataset.digest[:12]}... ({judged_dataset.folder}); leave one of the two out"
        )
    return replace(
        report, suspects=in_order([*judged.suspects, *report.suspects]), notes=(*judged.notes, *report.notes)
    )


def _print(report: "SuspectReport") -> None:
    from visionyard.data.quality.suspects import KINDS

    found = counted(len(report.suspects), "suspect")
    images = counted(report.item_count, "image")
    output.print(f"{report.label}: {report.task}, {images}, {found}", markup=False, soft_wrap=True)
    for note in report.notes:
        output.print(note, style="yellow", markup=False, soft_wrap=True)
    for kind, suspects in report.by_kind().items():
        table = columns("Image", "", title=f"\n{kind}: {KINDS[kind]} ({len(suspects):,})")
        for one in suspects[:_SHOWN_OF_A_KIND]:
            table.add_row(escape(f"{one.split}: {one.source}"), escape(one.message))
        output.print(table)
        if len(suspects) > _SHOWN_OF_A_KIND:
            output.print(f"... and {len(suspects) - _SHOWN_OF_A_KIND:,} more; --html draws them, --json lists all")
    for problem in report.balance:
        output.print(f"\n{problem.code}: {problem.message}", markup=False, soft_wrap=True)
    if report.shifts:
        _print_shifts(report)


def _print_shifts(report: "SuspectReport") -> None:
    table = columns("Compared", "Distance", "p", "Median of train", "of the split", "", title="\nHeld against train")
    for shift in report.shifts:
        medians = ["-" if one is None else f"{one:.4g}" for one in (shift.train_median, shift.split_median)]
        verdict = "[red]differs[/red]" if shift.is_told else ""
        table.add_row(
            f"{shift.name}, {shift.split}", f"{shift.distance:.3f}", f"{shift.p_value:.3f}", *medians, verdict
        )
    output.print(table)
