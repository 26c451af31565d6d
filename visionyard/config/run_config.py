"""The run config: everything a run needs to know, as one frozen model.

It is the single source of `run.yaml`, of `--set section.key=value`, of the pipeline's parameters (`section_key`) and of
the JSON Schema. Each field's description says what it is, its unit and what it trades.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

SourceKind = Literal[
    "auto",
    "clips_by_class",
    "clips_cvat",
    "images_coco",
    "images_cvat",
    "images_label_studio",
    "images_voc",
    "images_yolo",
    "images_by_class",
    "images_instance_masks",
    "images_semantic_masks",
    "images_idx",
    "images_csv",
    "images_tfrecord",
    "table",
]
SplitMode = Literal["group", "published"]
GroupBy = Literal["clip", "scene"]
NearDuplicatesMode = Literal["group", "report"]
ExportFormat = Literal["onnx", "torchscript", "onnx-fp16", "onnx-int8", "openvino"]
DeploymentTarget = Literal["none", "kserve", "kubernetes", "runpod", "huggingface"]


def _whole(value: Any) -> Any:
    """Turn 3.0 into 3: KFP hands integers inside lists and dicts on as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _no(value: Any) -> Any:
    """Turn False into "no": YAML reads the bare word so."""
    return "no" if value is False else value


Whole = Annotated[int, BeforeValidator(_whole)]
Precision = Annotated[Literal["no", "fp16", "bf16"], BeforeValidator(_no)]


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys refused, texts stripped, NaN refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic would read `epochs: true` as 1.
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in (int, float):
            raise ValueError(f"expected a number, got {str(value).lower()}")
        return value


class DataConfig(Section):
    """Where the data is and how it is divided."""

    source: str = Field(
        min_length=1,
        description="Folder, archive or file with the data: a path, s3://bucket/prefix or http(s) address.",
    )
    kind: SourceKind = Field("auto", description="How the source is laid out; auto looks and says what it found.")
    target: str = Field(
        "", description="Column to be learnt, for kind table; empty when the table's schema file names it."
    )
    classes: list[str] = Field(
        default_factory=list, description="Class names to keep, in the order of their ids; empty keeps all, as found."
    )
    group_pattern: str = Field(
        "",
        description="Regular expression on an image's path whose first group names its group (its scene or video); "
        "images of one group stay in one split. Empty: a clip is a group, each loose image is its own.",
    )
    split_mode: SplitMode = Field(
        "group", description="group draws a leak-safe split; published keeps the source's own train, val and test."
    )
    val_fraction: float = Field(0.15, gt=0, lt=0.9, description="Share of the items for validation while training.")
    test_fraction: float = Field(0.2, gt=0, lt=0.9, description="Share of the items that judge the finished model.")
    split_seed: int = Field(0, ge=0, description="Seed of the split; another one draws other groups.")
    folds: int = Field(
        0,
        ge=0,
        le=100,
        description="Divide into so many parts for cross-validation, 3 or more; 0 uses the shares above.",
    )
    fold: int = Field(0, ge=0, description="Which fold this run tests, 0 to folds - 1; the next one validates.")
    previous: str = Field(
        "", description="Folder or address of an earlier dataset version; its images keep their splits."
    )
    split_file: str = Field(
        "",
        description="CSV of names (items, clips or groups) and the splits that they stand in: a path, s3:// or http(s) "
        "address; the rest is drawn around them.",
    )
    group_by: GroupBy = Field("clip", description="clip keeps a whole clip in one split; scene only each shot of it.")
    near_duplicates: NearDuplicatesMode = Field(
        "group", description="group keeps images that show the same in one split; report only counts them."
    )
    leak_budget: float = Field(
        0.01, ge=0, le=1, description="Share of val and test that may have a near-duplicate in another split."
    )
    allow_leak: bool = Field(False, description="Train although the split leaks; the report says so first.")

    @field_validator("group_pattern")
    @classmethod
    def _pattern_has_a_group(cls, value: str) -> str:
        try:
            group_count = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if value and not group_count:
            raise ValueError("its first group, in round brackets, names the scene; it has none")
        return value

    @model_validator(mode="after")
    def _folds_fit(self) -> Self:
        if self.folds and (self.folds < 3 or self.split_mode != "group" or self.previous):
            raise ValueError(
                f"folds {self.folds}: expected 3 or more (0 for none), with split_mode group and without previous"
            )
        if self.fold >= max(1, self.folds):
            raise ValueError(f"fold {self.fold}: expected 0 to {max(0, self.folds - 1)}, for folds is {self.folds}")
        if self.previous and self.split_mode != "group":
            raise ValueError("previous keeps drawn splits; use it with split_mode group")
        if self.split_file and (self.folds or self.kind == "table"):
            why = f"folds = {self.folds} draws all splits" if self.folds else "of kind table a column says the split"
            raise ValueError(f"split_file {self.split_file!r}: {why}; leave it out")
        return self

    @model_validator(mode="after")
    def _fractions_leave_training_data(self) -> Self:
        if self.val_fraction + self.test_fraction >= 0.95:
            raise ValueError(
                f"val_fraction {self.val_fraction} + test_fraction {self.test_fraction} leave nothing to train on; "
                "their sum must stay below 0.95"
            )
        return self


class AnonymizeConfig(Section):
    """Faces, licence plates and the like hidden in every image before it is written; docs/video.md tells how."""

    model: str = Field(
        "",
        description="Detector of what is hidden: a model bundle, or an ONNX file; a path or s3:// address; empty hides "
        "nothing.",
    )
    spec: str = Field(
        "",
        description="For an ONNX file: its spec.yaml, as for `visionyard bundle import`; empty: beside it, "
        "NAME.spec.yaml.",
    )
    classes: list[str] = Field(
        default_factory=list, description="The detector's classes that are hidden; empty hides all that it knows."
    )
    confidence: float = Field(
        0.3, gt=0, lt=1, description="Least confidence of what is hidden; low hides more, and more that is none."
    )
    padding: float = Field(
        0.15, ge=0, le=2, description="Margin hidden around a box, as a share of its width and height on each side."
    )
    method: Literal["blur", "pixelate", "fill"] = Field(
        "blur", description="blur is smooth, pixelate has squares, fill leaves one grey area and nothing else."
    )


class FramesConfig(Section):
    """How still images are taken from clips."""

    rate_hz: float = Field(2.0, gt=0, le=240, description="Frames kept per second of video, by presentation time.")
    max_per_clip: int = Field(0, ge=0, description="Most frames of one clip, spread evenly over it; 0 keeps all.")
    drop_blurred: bool = Field(False, description="Leave out frames far less sharp than their clip's usual.")
    drop_similar: bool = Field(False, description="Leave out frames that look like the one kept before them.")
    jpeg_quality: int = Field(95, ge=50, le=100, description="JPEG quality of the kept frames; 95 is near lossless.")
    anonymize: AnonymizeConfig = AnonymizeConfig()

    @field_validator("anonymize", mode="before")
    @classmethod
    def _nothing_is_the_default(cls, value: Any) -> Any:
        # A section whose keys are all commented out.
        return {} if value is None else value


class ModelConfig(Section):
    """Which model is trained, and from what."""

    name: str = Field("yolo-detection", min_length=1, description="Plugin; `visionyard models` lists them.")
    preset: str = Field("", description="The plugin's variant, or its own model file; empty takes the default.")
    weights: str = Field(
        "",
        description="Start from these weights: a path, s3:// address, or a name the plugin knows; empty: from scratch.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="The plugin's own options; `visionyard models show NAME` lists them."
    )


class TrainingConfig(Section):
    """How the model is trained; 0 takes the preset's value where a field says so."""

    epochs: int = Field(20, ge=1, description="Passes over the training split.")
    batch_size: int = Field(0, ge=0, description="Images per optimizer step; 0 takes the preset's.")
    image_size_px: int = Field(0, ge=0, le=4096, description="Side of the model's input; 0 takes the preset's.")
    learning_rate: float = Field(0.0, ge=0, description="Peak learning rate; 0 takes the preset's.")
    weight_decay: float = Field(0.0005, ge=0, description="Decoupled weight decay.")
    patience: int = Field(0, ge=0, description="Stop after this many epochs without a better one; 0 never stops early.")
    keep_epochs: list[Whole] = Field(
        default_factory=list, description="Epochs whose checkpoints stay, beside the newest three and the best."
    )
    seed: int = Field(0, ge=0, description="Seed of weights, order and augmentation.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:0 ...; auto takes a GPU when there is one.")
    mixed_precision: Precision = Field("no", description="fp16 or bf16 halve memory on GPUs; no is exact.")
    loader_workers: int = Field(-1, ge=-1, description="Processes that prepare batches; -1 computes it from the cores.")


class ValidationConfig(Section):
    """How the finished model is judged on the test split."""

    confidence_threshold: float = Field(
        0.25, ge=0, le=1, description="Detections below it are not drawn nor counted as right or wrong; mAP uses all."
    )
    iou_threshold: float = Field(0.5, gt=0, le=1, description="Overlap from which a detection matches a true box.")


class ExportConfig(Section):
    """Which formats leave the yard, and how alike they must be."""

    formats: list[ExportFormat] = Field(
        ["onnx", "torchscript"],
        min_length=1,
        description="Formats of the model bundle; half precision and eight bits are quicker on some machines.",
    )
    opset: int = Field(18, ge=12, le=20, description="ONNX operator set.")
    score_tolerance: float = Field(0.001, gt=0, le=0.1, description="Largest difference of a class score.")
    metric_tolerance: float = Field(0.001, gt=0, le=0.1, description="Largest difference of the main metric.")
    int8_metric_tolerance: float = Field(0.01, gt=0, le=0.1, description="The same for onnx-int8.")


class BenchmarkConfig(Section):
    """How the bundle's speed is measured."""

    batch_sizes: list[Whole] = Field([1, 8], min_length=1, description="Images per call.")
    threads: list[Whole] = Field(
        [1, 2], min_length=1, description="Intra-operator threads; more than the cores are skipped."
    )
    repeat_count: int = Field(30, ge=5, description="Timed calls of each combination.")
    warmup_count: int = Field(3, ge=1, description="Calls before the timed ones.")

    @model_validator(mode="after")
    def _counts_are_positive(self) -> Self:
        for name in ("batch_sizes", "threads"):
            if bad := [value for value in getattr(self, name) if value < 1]:
                raise ValueError(f"{name} holds {bad[0]}; each must be 1 or more")
        return self


class PromotionConfig(Section):
    """When a new model takes the champion's place; docs/promotion.md explains how it is judged."""

    model: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9_. -]{0,99})?$",
        description="Name of the registered model; empty: the run's name.",
    )
    confidence: float = Field(
        0.95, ge=0.6, le=0.999, description="How certain it must be that the new model is better than the champion."
    )
    least_gain: float = Field(
        0.0,
        ge=-0.5,
        le=0.5,
        description="Gain of the main metric that is asked for; below 0 one as good as the champion passes too.",
    )
    class_budget: float = Field(0.05, ge=0, le=1, description="Most that recall or AP of one class may fall.")
    least_metric: float = Field(0.0, ge=0, le=1, description="Least value of the main metric, champion or not.")
    most_p95_ms: float = Field(
        0.0, ge=0, description="Most latency of the fastest format, 95 % of the calls; 0: no limit."
    )
    approval: Literal["none", "required"] = Field(
        "none", description="required: a person approves each bundle, by `visionyard approve`, before it is promoted."
    )
    store: str = Field(
        "", description="Folder or s3:// prefix of approvals and watermarks; empty: beside the local runs."
    )


class DeploymentConfig(Section):
    """Where a promoted bundle is served, and how it gets there."""

    target: DeploymentTarget = Field(
        "none", description="none deploys nothing; kubernetes is a plain Deployment, for clusters without KServe."
    )
    name: str = Field(
        "",
        pattern=r"^([a-z]([a-z0-9-]{0,38}[a-z0-9])?)?$",
        description="Name of the service; empty: the run's name.",
    )
    namespace: str = Field(
        "",
        pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$",
        description="Kubernetes namespace; empty: the account's or the context's own.",
    )
    store_uri: str = Field("", description="s3://bucket/prefix below which bundles are put, each under its digest.")
    format: Literal["onnx", "torchscript"] = Field("onnx", description="Format of the bundle that is served.")
    image: str = Field("", description="Serving image; empty: that of this version.")
    mode: Literal["Standard", "Knative"] = Field("Standard", description="How KServe runs it: HPA or Knative's KPA.")
    min_replicas: int = Field(1, ge=0, description="Fewest pods; 0 scales to zero, in Knative mode and on RunPod.")
    max_replicas: int = Field(1, ge=1, description="Most pods; the same as min_replicas: a fixed number.")
    scale_metric: Literal["cpu", "memory", "concurrency", "rps"] = Field(
        "cpu", description="What the number of pods follows; concurrency and rps in Knative mode only."
    )
    scale_target: int = Field(
        80, ge=1, description="Of scale_metric, a pod: percent of what it requests, requests at a time or a second."
    )
    cpu: str = Field("1", pattern=r"^\d+(\.\d+|m)?$", description="CPU cores of a pod, as Kubernetes writes them.")
    memory: str = Field("2Gi", pattern=r"^\d+(\.\d+)?[KMGT]i?$", description="Memory of a pod, the same way.")
    gpu_count: int = Field(0, ge=0, description="GPUs of a pod.")
    service_account: str = Field(
        "visionyard-serving", description="Account of the pods; for KServe it lists the Secret of the object store."
    )
    credentials: str = Field("visionyard-s3", description="Secret of the object store, read by the kubernetes target.")
    canary_percent: int = Field(
        0, ge=0, le=50, description="Share of the traffic that judges a new bundle beside the old one; 0: no canary."
    )
    canary_requests: int = Field(300, ge=1, description="Answers of the canary before it can be promoted.")
    canary_duration_s: float = Field(
        1800.0, ge=60, description="A canary that is undecided after this is rolled back, seconds."
    )
    timeout_s: float = Field(600.0, ge=10, description="Longest wait for a new bundle to serve, seconds.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="The target's own options; docs/deploying.md lists them."
    )

    @model_validator(mode="after")
    def _fits_the_target(self) -> Self:
        if problems := [] if self.target == "none" else _deployment_problems(self):
            raise ValueError("; ".join(problems))
        return self


def _deployment_problems(config: DeploymentConfig) -> list[str]:
    """Return what the target would refuse, or worse, take and ignore."""
    is_knative = config.target == "kserve" and config.mode == "Knative"
    scales_to_zero = is_knative or config.target in ("runpod", "huggingface")
    checks = {
        "store_uri is empty; give s3://bucket/prefix, where the pods read the bundle": config.target != "huggingface"
        and not config.store_uri.startswith("s3://"),
        f"min_replicas {config.min_replicas} is above max_replicas {config.max_replicas}": config.min_replicas
        > config.max_replicas,
        "min_replicas 0: only Knative mode, RunPod and Hugging Face scale to zero; give at least 1": not (
            config.min_replicas or scales_to_zero
        ),
        f"scale_metric {config.scale_metric}: only in Knative mode; take cpu or memory": config.scale_metric
        in ("concurrency", "rps")
        and not is_knative,
        f"canary_percent {config.canary_percent}: only the target kserve has canaries; give 0": config.canary_percent
        > 0
        and config.target != "kserve",
    }
    return [problem for problem, is_so in checks.items() if is_so]


class RunConfig(Section):
    """One run, from data to benchmarked model bundle."""

    name: str = Field(
        "run", pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$", description="Name of the run's folder and experiment."
    )
    data: DataConfig
    frames: FramesConfig = FramesConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    validation: ValidationConfig = ValidationConfig()
    export: ExportConfig = ExportConfig()
    benchmark: BenchmarkConfig = BenchmarkConfig()
    promotion: PromotionConfig = PromotionConfig()
    deployment: DeploymentConfig = DeploymentConfig()
