"""`visionyard dataset`: look at data, check it, change its format, keep its versions.

A command a module, `<verb>.py` with `<verb>_command`; none imports anything heavy before it runs.
"""

import typer

from visionyard.cli.dataset.inspect import inspect_command

dataset_app = typer.Typer(
    help="Look at data, check it, change its format, keep its versions.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
dataset_app.command(name="inspect")(inspect_command)

__all__ = ["dataset_app"]
