"""What a person says of an ONNX model made elsewhere: `spec.yaml` of `visionyard bundle import`."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from visionyard.config import Section
from visionyard.config.loading import ConfigReader
from visionyard.errors import ConfigError
from visionyard.transforms import Postprocessing, PreprocessingSpec


class ImportSpec(Section):
    """What the file of the model does not tell: classes, licence, and the way from image to input, output to boxes.

    Attributes:
        name: What the bundle is called.
        task: Also the `kind` of the postprocessing, which may be left out there.
        classes: Names in the order of their ids.
        classes_file: A text file with one name a line, beside the spec; in place of `classes`.
        licence: SPDX name or text; whoever serves the model has to know.
        source: Where the model comes from: an address, a paper, a person.
        input: The input's name; empty takes the only one.
        outputs: Names of the outputs in the layout's order; empty takes the file's, when it has as many.
        preprocessing: From image to input.
        postprocessing: From outputs to predictions.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    task: Literal["classification", "detection"]
    classes: list[str] = Field(default_factory=list)
    classes_file: str = ""
    licence: str = Field(min_length=1)
    source: str = ""
    input: str = ""
    outputs: list[str] = Field(default_factory=list)
    preprocessing: PreprocessingSpec
    postprocessing: Postprocessing

    @model_validator(mode="before")
    @classmethod
    def _task_tells_the_kind(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("postprocessing", {}), dict) and "task" in values:
            return {**values, "postprocessing": {"kind": values["task"], **values.get("postprocessing", {})}}
        return values

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.postprocessing.kind != self.task:
            raise ValueError(f"postprocessing.kind is {self.postprocessing.kind}, the task is {self.task}")
        if bool(self.classes) == bool(self.classes_file):
            raise ValueError("give the names either as classes or as classes_file")
        if twice := sorted({name for name in self.classes if self.classes.count(name) > 1}):
            raise ValueError(f"classes: {twice[0]!r} is given twice")
        return self


_READER = ConfigReader(
    ImportSpec, "VISIONYARD_IMPORT_", "name=detector", "docs/bundles.md has one to start from for each layout"
)


def read_import_spec(path: Path) -> ImportSpec:
    """Read a spec, with the classes of its `classes_file` put in.

    Raises:
        ConfigError: It is missing or no YAML, or any value is wrong; it lists all mistakes.
    """
    spec = _READER.load(path, (), {})
    if not spec.classes_file:
        return spec
    names_path = path.parent / spec.classes_file
    try:
        lines = names_path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: classes_file = {spec.classes_file!r}: cannot be read as text: {error}") from None
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise ConfigError(f"{names_path}: no class name in it; expected one a line")
    try:
        return ImportSpec.model_validate({**spec.model_dump(), "classes": names, "classes_file": ""})
    except ValueError as error:
        raise ConfigError(f"{names_path}: {error}") from None
