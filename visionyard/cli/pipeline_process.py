"""The child process that runs a pipeline by KFP's local runner.

KFP's runner patches `print` and the root logger for good and leaves orphans when it is killed alone, so it has a
process group of its own: started by `visionyard.cli.local_run`, stopped by a signal to the group.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

SUBPROCESS = "subprocess"
CONTAINERS = "containers"
# The pipeline's parameters that may name a file or folder of this machine.
_PATH_ARGUMENTS = (
    "data_source",
    "data_split_file",
    "frames_anonymize_model",
    "frames_anonymize_spec",
    "model_weights",
    "model_preset",
)


def main(pipeline_name: str, request_path: str) -> None:
    """Compile the pipeline, run it, and exit with 0 when it succeeded.

    Args:
        pipeline_name: A package of `visionyard.pipelines`.
        request_path: JSON with `package_path`, `pipeline_root`, `arguments` and `runner`.
    """
    from visionyard.cli.compile import compile_pipeline

    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    compile_pipeline(pipeline_name, Path(request["package_path"]))
    try:
        run_package(Path(request_path).parent, **request)
    except RuntimeError:  # a task failed; KFP says no more than that
        from visionyard import tracking

        tracking.end_pipeline_run(is_done=False)
        raise


def run_package(
    folder: Path, *, package_path: str, pipeline_root: str, arguments: dict[str, Any], runner: str
) -> dict[str, Any]:
    """Run a compiled pipeline here, task by task, and return its outputs.

    Args:
        folder: Of the run.
        package_path: The compiled pipeline.
        pipeline_root: Where KFP keeps artifacts and its cache.
        arguments: Of the pipeline.
        runner: `subprocess` or `containers`.

    Raises:
        RuntimeError: A task failed.
    """
    from kfp import components, local

    # The local runner has no resources, accelerators or volumes to give, and says so at each task.
    warnings.filterwarnings("ignore", module=r"kfp\.")
    task_runner: Any = local.SubprocessRunner(use_venv=False)
    if runner == CONTAINERS:
        from visionyard.cli.container_run import make_runner

        task_runner = make_runner(folder, readable=[str(arguments.get(name, "")) for name in _PATH_ARGUMENTS])
    local.init(runner=task_runner, pipeline_root=pipeline_root, enable_caching=True)
    outputs: dict[str, Any] = components.load_component_from_file(package_path)(**arguments).outputs
    return outputs


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
