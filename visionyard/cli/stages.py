"""What the live view knows of a pipeline's stages without importing KFP: order, titles and where outputs go."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class StageInfo:
    """One task of a pipeline.

    Attributes:
        name: The component's name, as in run events.
        title: What a person reads.
        places: Output artifact to the path in the run's folder where it can always be found.
    """

    name: str
    title: str
    places: dict[str, str] = field(default_factory=dict)

    @property
    def task_name(self) -> str:
        """The name KFP gives its task and its folder."""
        return self.name.replace("_", "-")


TRAIN_MODEL_STAGES = (
    StageInfo("ingest_dataset", "Ingest"),
    StageInfo("extract_frames", "Extract frames"),
    StageInfo("prepare_dataset", "Prepare dataset", {"dataset": "dataset"}),
    StageInfo("train_model", "Train", {"checkpoint": "model"}),
    StageInfo("validate_model", "Validate", {"evaluation": "evaluation", "report": "report.html"}),
    StageInfo("export_model", "Export", {"bundle": "bundle"}),
    StageInfo("benchmark_model", "Benchmark", {"benchmark": "benchmark", "full_report": "report.html"}),
    StageInfo("promote_model", "Promote", {"judgement": "verdict", "final_report": "report.html"}),
    StageInfo("deploy_model", "Deploy"),
)
