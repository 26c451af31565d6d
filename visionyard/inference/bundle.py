"""The model bundle: what leaves the yard. A folder whose `model.json` describes the model and names every other file.

model.json          BundleManifest, below
model.onnx, model.torchscript   the formats that were asked for
parity.json         the parity certificate in full
README.md           the model card

A bundle is refused when a file is missing or has another SHA-256 than `model.json` says, or when the schema version is
unknown.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from visionyard.config import describe_problems
from visionyard.digests import sha256_file
from visionyard.errors import ArtifactError, ConfigError
from visionyard.inference.backends import Backend, load_backend
from visionyard.inference.onnx_backend import OnnxOptions
from visionyard.inference.reference import EmbeddingReference, FeatureReference
from visionyard.transforms import Postprocessing, Preprocessing

SCHEMA_VERSION = 1
MANIFEST = "model.json"
CARD = "README.md"
CERTIFICATE = "parity.json"

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# A plain name: a bundle from elsewhere must not reach outside its folder.
_FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]

# A list of numbers over many lines; the texts in JSON have no line breaks.
_NUMBER_LIST = re.compile(r"\[\n[-+.,\deE\s]+\]")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorInfo(_Part):
    """An input or output of the model; -1 in `shape` is the batch."""

    name: str
    dtype: Literal["float32"] = "float32"
    shape: list[int]


class FileInfo(_Part):
    """Size and SHA-256 of a file."""

    sha256: _Sha256
    bytes: int = Field(ge=0)


class FormatInfo(FileInfo):
    """A file that holds the model; `details` are the format's own, such as the ONNX operator set."""

    file: _FileName
    details: dict[str, int | str] = Field(default_factory=dict)


class Distribution(_Part):
    """How a quantity is spread over `count` images or boxes; `quantiles` by name, such as `q05`, `q50`."""

    count: int = Field(ge=1)
    mean: float
    std: float
    quantiles: dict[str, float]


class ReferenceStatistics(_Part):
    """What the model's pictures looked like, for telling later ones that differ.

    The last three are what serving tests against; a bundle without them is of an earlier version.

    Attributes:
        images: `width_px`, `height_px`, `brightness` (mean luminance, 0 to 1), `contrast` (standard deviation of the
            luminance, 0 to 0.5) over train and val; empty for a table.
        class_mix: Share of each class among the labels of train and val; sums to 1, empty when there are no labels.
        confidence: Of the predictions on test at the bundle's own threshold; None when there were none.
        features: What is measured of each picture (visionyard.monitoring.features): of the picture itself over train
            and val, of the model's answer over test.
        class_counts: Objects of each predicted class in an image, over test; the name "" stands for all classes that
            have no entry of their own.
        embedding: Of the picture's descriptor over train and val; None with fewer than two pictures.
    """

    images: dict[str, Distribution]
    class_mix: dict[str, float]
    confidence: Distribution | None
    features: dict[str, FeatureReference] = Field(default_factory=dict)
    class_counts: dict[str, FeatureReference] = Field(default_factory=dict)
    embedding: EmbeddingReference | None = None


class FormatParity(_Part):
    """How far one format is from the trained model, at most; see the certificate for each image.

    Attributes:
        score_tolerance: What this format was held to, when that is looser than the certificate's own; None when its
            scores were compared, not judged.
        metric_tolerance: What this format was held to; None: the certificate's own.
    """

    is_passed: bool
    compared_count: int
    max_score_gap: float
    max_iou_gap: float | None
    metric: float | None
    metric_gap: float | None
    score_tolerance: float | None = None
    metric_tolerance: float | None = None


class ParitySummary(_Part):
    """The parity certificate in short; its tolerances are those of formats that promise to be exact."""

    is_passed: bool
    image_count: int
    metric_name: str
    reference_metric: float | None
    score_tolerance: float
    metric_tolerance: float
    formats: dict[str, FormatParity]

    def keeps_metric(self, name: str) -> bool:
        """Return whether a format is certified and as good as an exact one; a lossy one may have been allowed less."""
        proof = self.formats.get(name)
        if proof is None or not proof.is_passed:
            return False
        if proof.metric_gap is None:  # no labels: exact formats are held to each image, lossy ones to little else
            return proof.metric_tolerance is None
        return proof.metric_gap <= self.metric_tolerance


class BundleManifest(_Part):
    """What `model.json` holds.

    Attributes:
        origin: `trained` here, or `imported` from elsewhere: then plugin, preset and digests are empty, and there is no
            parity certificate because there is no trained model to compare with.
        source: Where an imported model comes from, in the words of whoever imported it.
        outputs: In the order that the postprocessing takes them. Bundles of before had one `output`; they still load.
        reference_statistics: None for an imported model without sample images.
        parity: None for an imported model.
    """

    schema_version: Literal[1] = 1
    name: str
    task: Literal["classification", "detection"]
    origin: Literal["trained", "imported"] = "trained"
    source: str = ""
    classes: list[str] = Field(min_length=1)
    plugin: str
    preset: str
    licence: str
    input: TensorInfo
    outputs: list[TensorInfo] = Field(min_length=1)
    preprocessing: Preprocessing
    postprocessing: Postprocessing
    metrics: dict[str, float]
    dataset_digest: str
    code_digest: str
    config_digest: str
    checkpoint_digest: str
    reference_statistics: ReferenceStatistics | None = None
    parity: ParitySummary | None = None
    formats: dict[str, FormatInfo] = Field(min_length=1)
    files: dict[_FileName, FileInfo]

    @model_validator(mode="before")
    @classmethod
    def _read_one_output(cls, values: Any) -> Any:
        if isinstance(values, dict) and "output" in values and "outputs" not in values:
            values = {**values, "outputs": [values["output"]]}
            del values["output"]
        return values

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.postprocessing.kind != self.task:
            raise ValueError(f"postprocessing is for {self.postprocessing.kind}, the task is {self.task}")
        if (self.parity is None or self.reference_statistics is None) and self.origin == "trained":
            raise ValueError("a trained model's bundle has parity and reference_statistics, they are missing")
        if len(self.outputs) != len(self.postprocessing.outputs):
            raise ValueError(
                f"outputs: the postprocessing takes {len(self.postprocessing.outputs)}, got {len(self.outputs)}"
            )
        for name, form in self.formats.items():
            if self.files.get(form.file) != FileInfo(sha256=form.sha256, bytes=form.bytes):
                raise ValueError(f"formats.{name}: {form.file} is not among files, or with another hash or size")
        return self

    def to_text(self) -> str:
        """Return the text of `model.json`."""
        text = json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
        return _NUMBER_LIST.sub(lambda found: " ".join(found.group().split()), text) + "\n"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on disk.

    Attributes:
        folder: Where it lies.
        manifest: What it is.
    """

    folder: Path
    manifest: BundleManifest

    @classmethod
    def open(cls, folder: Path) -> "Bundle":
        """Open a bundle and verify every file of it.

        Raises:
            ArtifactError: It is not a bundle, of an unknown version, or a file is missing or altered; names the file.
        """
        manifest = _read_manifest(folder)
        for name, info in manifest.files.items():
            _verify(folder / name, info)
        return cls(folder, manifest)

    @property
    def digest(self) -> str:
        """SHA-256 of `model.json`, hence of the whole bundle, since that names every other file's."""
        return sha256_file(self.folder / MANIFEST)

    @property
    def formats(self) -> list[str]:
        """The formats it can be run in; nothing certifies an imported model, so that OpenVINO too may read its ONNX."""
        names = list(self.manifest.formats)
        if self.manifest.origin == "imported" and "onnx" in names and "openvino" not in names:
            names.append("openvino")
        return names

    def format_name(self, name: str | None = None) -> str:
        """Return a format that the bundle has; None takes onnx, or the first there is.

        Raises:
            ConfigError: The bundle lacks the format; lists those it has.
        """
        formats = self.formats
        chosen = name or ("onnx" if "onnx" in formats else formats[0])
        if chosen not in formats:
            raise ConfigError(f"{self.folder}: the bundle has no format {name!r}; it has {', '.join(formats)}")
        return chosen

    def format_path(self, name: str | None = None) -> Path:
        """Return the file of a format; None takes onnx, or the first there is.

        Raises:
            ConfigError: The bundle lacks the format.
        """
        chosen, formats = self.format_name(name), self.manifest.formats
        return self.folder / (formats[chosen] if chosen in formats else formats["onnx"]).file

    def backend(
        self,
        name: str | None = None,
        *,
        threads: int = 0,
        device: str = "cpu",
        options: OnnxOptions | None = None,
    ) -> Backend:
        """Load the model in one of its formats; `choose_format` finds the best for a device.

        Args:
            name: Such as `onnx` or `torchscript`; None takes onnx, or the first there is.
            threads: Intra-operator threads; 0 leaves the library's own choice.
            device: `cpu`; for ONNX and TorchScript also `cuda`, for ONNX also `tensorrt`.
            options: For ONNX Runtime; None takes the defaults.

        Raises:
            ConfigError: The bundle lacks the format, or it does not run on the device.
            ArtifactError: The file cannot be loaded.
        """
        return load_backend(
            self.format_name(name),
            self.format_path(name),
            threads=threads,
            device=device,
            outputs=[output.name for output in self.manifest.outputs],
            options=options,
        )


def _read_manifest(folder: Path) -> BundleManifest:
    path = folder / MANIFEST
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{folder}: expected a model bundle with {MANIFEST}, found none") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: not valid JSON ({error}); export the model again") from None
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path}: schema_version {version!r} is not known, expected {SCHEMA_VERSION}; use the Visionyard that "
            "wrote it, or export the model again with this one"
        )
    try:
        return BundleManifest.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(describe_problems(error, BundleManifest))
        raise ArtifactError(f"{path}: {problems}; export the model again") from None


def _verify(path: Path, info: FileInfo) -> None:
    if not path.is_file():
        raise ArtifactError(f"{path}: the bundle's file is missing; copy the bundle again, whole")
    size = path.stat().st_size
    if size != info.bytes:
        raise ArtifactError(f"{path}: expected {info.bytes} bytes, got {size}; copy the bundle again, whole")
    found = sha256_file(path)
    if found != info.sha256:
        raise ArtifactError(
            f"{path}: expected SHA-256 {info.sha256[:12]}..., got {found[:12]}...; the file was altered; copy the "
            "bundle again"
        )
