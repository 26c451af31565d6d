"""`visionyard dataset splits`: the splits of a dataset version as a file for `data.split_file`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

output = Console(highlight=False)


def splits_command(
    version: Annotated[
        str, typer.Argument(help="A dataset version: a folder, or an address in a store.", metavar="VERSION")
    ],
    *,
    target: Annotated[Path, typer.Option("--out", help="The CSV file; it must not exist yet.")],
) -> None:
    """Write which group stands in which split; the file can be kept, changed and given as data.split_file.

    A group that stands in two splits is written image by image, and so are the scenes of a clip.
    """
    from visionyard.atomic import write_atomic
    from visionyard.cli.dataset.printing import counted
    from visionyard.data.dataset import Dataset
    from visionyard.data.given_splits import split_rows, split_text
    from visionyard.data.streaming.streamed import open_dataset
    from visionyard.errors import ConfigError

    if target.exists():
        raise ConfigError(f"--out {target}: it exists already; name a new file")
    dataset = open_dataset(version)
    if not isinstance(dataset, Dataset):
        raise ConfigError(
            f"{version}: a table, and data.split_file is not for tables; name a split column and use published"
        )
    rows = split_rows(dataset)
    write_atomic(target, split_text(rows))
    output.print(f"wrote {target}: {counted(len(rows), 'row')}", markup=False, soft_wrap=True)
