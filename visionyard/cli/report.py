"""`visionyard report`: rebuild a run's page from its folder."""

from pathlib import Path

from visionyard.cli.run_folder import RunFolder
from visionyard.errors import VisionyardError


def rebuild_report(folder: RunFolder) -> Path:
    """Build `report.html` anew from what the run's folder holds, and return its path.

    Raises:
        VisionyardError: The run has not come as far as its evaluation.
    """
    from visionyard.evaluation import build_report

    needed = [folder.path / "evaluation", folder.path / "dataset"]
    if missing := [path.name for path in needed if not path.exists()]:
        raise VisionyardError(
            f"{folder.path}: the run has no {' and no '.join(missing)} yet; run the same `visionyard run` again to go on"
        )
    optional = {name: folder.path / place for name, place in _OPTIONAL.items() if (folder.path / place).exists()}
    build_report(folder.report, evaluation=needed[0], dataset=needed[1], title=folder.name, **optional)
    return folder.report


_OPTIONAL = {"training": "model", "bundle": "bundle", "benchmark": "benchmark"}
