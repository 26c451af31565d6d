"""The child process that runs a pipeline by KFP's local runner.

KFP's runner patches `print` and the root logger for good and leaves orphans when it is killed alone, so it has a
process group of its own: started by `visionyard.cli.local_run`, stopped by a signal to the group.
"""

import json
import sys
import warnings
from pathlib import Path


def main(pipeline_name: str, request_path: str) -> None:
    """Compile the pipeline, run it, and exit with 0 when it succeeded.

    Args:
        pipeline_name: A package of `visionyard.pipelines`.
        request_path: JSON with `package_path`, `pipeline_root` and `arguments`.
    """
    from kfp import components, local

    from visionyard.cli.compile import compile_pipeline

    # The local runner has no resources, accelerators or volumes to give, and says so at each task.
    warnings.filterwarnings("ignore", module=r"kfp\.")
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    compile_pipeline(pipeline_name, Path(request["package_path"]))
    local.init(
        runner=local.SubprocessRunner(use_venv=False), pipeline_root=request["pipeline_root"], enable_caching=True
    )
    try:
        components.load_component_from_file(request["package_path"])(**request["arguments"])
    except RuntimeError:  # a task failed; KFP says no more than that
        from visionyard import tracking

        tracking.end_pipeline_run(is_done=False)
        raise


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
