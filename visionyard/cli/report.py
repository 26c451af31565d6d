"""`visionyard report`: rebuild a run's page from its folder."""

from pathlib import Path

from visionyard.cli.run_folder import RunFolder
from visionyard.errors import VisionyardError


def rebuild_report(folder: RunFolder) -> Path:
    """Build `report.html` anew from what the run's folder holds, and return its path.

    Raises:
        ConfigError: VISIONYARD_PRICES names a price table that is missing or wrong, or lacks a price.
        VisionyardError: The run has not come as far as its evaluation.
    """
    from visionyard.cli.cost import local_cost
    from visionyard.evaluation import build_report

    needed = [folder.path / "evaluation", folder.path / "dataset"]
    if missing := [path.name for path in needed if not path.exists()]:
        raise VisionyardError(
            f"{folder.path}: the run has no {' and no '.join(missing)} yet; the same `visionyard run` goes on with it"
        )
    places = ("model", "bundle", "benchmark", "verdict")
    training, bundle, benchmark, verdict = (_if_there(folder.path / place) for place in places)
    cost = local_cost(folder)
    build_report(
        folder.report,
        evaluation=needed[0],
        dataset=needed[1],
        training=training,
        bundle=bundle,
        benchmark=benchmark,
        verdict=verdict,
        cost=cost.to_json() if cost else None,
        title=folder.name,
    )
    return folder.report


def _if_there(path: Path) -> Path | None:
    return path if path.exists() else None
