"""`visionyard run`: check, choose the folder, run, and say how it ended."""

from pathlib import Path

from rich.console import Console

from visionyard.cli import summary
from visionyard.cli.check import find_problems
from visionyard.cli.container_run import check_images
from visionyard.cli.inputs import input_digests
from visionyard.cli.local_run import PIPELINE, run_locally
from visionyard.cli.pipeline_process import CONTAINERS, SUBPROCESS
from visionyard.cli.promotion import is_waiting
from visionyard.cli.run_folder import open_run
from visionyard.config import RunConfig
from visionyard.errors import ConfigError

EXIT_DONE = 0
EXIT_FAILED = 1
RUNNERS = (SUBPROCESS, CONTAINERS)


def run_pipeline(config: RunConfig, *, runs: Path, is_new: bool, console: Console, runner: str = SUBPROCESS) -> int:
    """Run the pipeline here and return the exit code.

    Args:
        config: What to run.
        runs: Holds all runs.
        is_new: Start a new run although one could go on.
        console: Where to draw.
        runner: What each task is: `subprocess`, or `containers` of Docker or podman.

    Raises:
        ConfigError: Something would make the run fail; nothing was started.
    """
    problems = find_problems(config)
    if runner not in RUNNERS:
        problems.append(f"--runner {runner}: expected one of {', '.join(RUNNERS)}")
    if runner == CONTAINERS and config.training.device.startswith("cuda"):
        problems.append(
            f"training.device = {config.training.device!r}: local containers get no GPU; expected auto or cpu, or "
            "--runner subprocess"
        )
    if problems:
        raise ConfigError(problems)
    images = None
    if runner == CONTAINERS:
        with console.status("looking for the images"):
            images = check_images(PIPELINE)
    from visionyard.storage import source_digest

    with console.status(f"looking at {config.data.source}"):
        data_digest, digests = source_digest(config.data.source), input_digests(config)
    folder, is_resumed = open_run(runs, config, is_new=is_new)
    with folder.locked():
        verb = "going on with" if is_resumed else "starting"
        console.print(f"{verb} [bold]{folder.name}[/bold] in {folder.path}", soft_wrap=True)
        status, view = run_locally(
            config, folder, data_digest=data_digest, console=console, images=images, digests=digests
        )
    if console.is_terminal:
        if status != "done":
            summary.print_stage_lines(console, view)
        summary.print_notes(console, view)
    if status == "done":
        summary.print_success(console, view, folder, config)
        if is_waiting(folder):
            # Not done: the same command, after the approval, goes on with this run and its cached stages.
            folder.write_status(status="waiting")
            summary.print_waiting(console, folder)
        return EXIT_DONE
    if status == "stopped":
        summary.print_stopped(console, folder)
    else:
        summary.print_failure(console, view, folder)
    return EXIT_FAILED
