"""Starting the receiver's runs on Kubeflow Pipelines."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from visionyard.cluster.kfp_api import KfpApi
from visionyard.cluster.packages import Package
from visionyard.cluster.profiles import Profile
from visionyard.cluster.runs import ENDED
from visionyard.cluster.submit import submit_package


@dataclass(frozen=True)
class KfpStarter:
    """Starts runs of one compiled pipeline.

    Attributes:
        api: The server.
        package: The pipeline.
        profile: The one it was compiled with.
        experiment: Group of runs.
    """

    api: KfpApi
    package: Package
    profile: Profile
    experiment: str

    def start(self, model: str, parameters: Mapping[str, Any]) -> str:
        """Start a run and return its id.

        Raises:
            ConfigError: A parameter is not the pipeline's, or of another type.
            VisionyardError: The server cannot be reached or refuses.
        """
        return submit_package(
            self.api,
            self.package,
            name=f"{model}-drift-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}",
            experiment=self.experiment,
            parameters=parameters,
            profile=self.profile,
            description=f"started by an alert about {model}",
        )

    def is_running(self, run_id: str) -> bool:
        """Return whether a run has not ended; one that was deleted has.

        Raises:
            VisionyardError: The server cannot be reached or refuses.
        """
        found = self.api.runs(most=1, where=("EQUALS", "run_id", run_id))
        return any(run.get("state") not in ENDED for run in found)
