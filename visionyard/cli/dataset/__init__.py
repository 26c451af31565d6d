"""`visionyard dataset`: look at data, check it, change its format, keep its versions.

A command a module, `<verb>.py` with `<verb>_command`; none imports anything heavy before it runs.
"""

import typer

from visionyard.cli.capture import capture_command
from visionyard.cli.dataset.audit import audit_command
from visionyard.cli.dataset.check import check_command
from visionyard.cli.dataset.convert import convert_command
from visionyard.cli.dataset.diff import diff_command
from visionyard.cli.dataset.gc import gc_command
from visionyard.cli.dataset.inspect import inspect_command
from visionyard.cli.dataset.list import list_command
from visionyard.cli.dataset.prelabel import prelabel_command
from visionyard.cli.dataset.pull import pull_command
from visionyard.cli.dataset.push import push_command
from visionyard.cli.dataset.splits import splits_command
from visionyard.cli.dataset.suspects import suspects_command

dataset_app = typer.Typer(
    help="Look at data, check it, change its format, keep its versions.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
dataset_app.command(name="audit")(audit_command)
dataset_app.command(name="check")(check_command)
dataset_app.command(name="capture")(capture_command)
dataset_app.command(name="convert")(convert_command)
dataset_app.command(name="diff")(diff_command)
dataset_app.command(name="inspect")(inspect_command)
dataset_app.command(name="prelabel")(prelabel_command)
dataset_app.command(name="splits")(splits_command)
dataset_app.command(name="suspects")(suspects_command)
dataset_app.command(name="gc")(gc_command)
dataset_app.command(name="list")(list_command)
dataset_app.command(name="pull")(pull_command)
dataset_app.command(name="push")(push_command)

__all__ = ["dataset_app"]
