"""The preprocessing specs, of images and of tables: what a bundle may hold.

Both give the model's input by the same few members: `input_name` and `input_shape` (without the batch), `apply_all`
from contents to a batch and their placements, `decode` from what is stored or sent to a content, `neutral`, a content
to warm up with, and `item`, what people call one.
"""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from visionyard.errors import ConfigError
from visionyard.transforms.preprocessing import PreprocessingSpec
from visionyard.transforms.rows import TablePreprocessing

# What a spec is applied to: an image, (H, W, 3) uint8 RGB, or a `visionyard.transforms.rows.Row`.
Content = Any
_SHOWN_COLUMNS = 5


def _kind(values: Any) -> str:
    kind = values.get("kind") if isinstance(values, dict) else getattr(values, "kind", None)
    return "table" if kind == "table" else "image"


# Specs of images name no kind: they were there before tables.
Preprocessing = Annotated[
    Annotated[PreprocessingSpec, Tag("image")] | Annotated[TablePreprocessing, Tag("table")], Discriminator(_kind)
]


def require_images(preprocessing: PreprocessingSpec | TablePreprocessing) -> None:
    """Refuse a model of something else.

    Raises:
        ConfigError: It takes rows of a table; says how it is asked.
    """
    if isinstance(preprocessing, TablePreprocessing):
        names = ", ".join(column.name for column in preprocessing.columns[:_SHOWN_COLUMNS])
        raise ConfigError(
            f"this model looks at rows of a table (columns {names}, ...), not at images: give `visionyard predict` a "
            "CSV, TSV or Parquet file, or send rows to `visionyard serve`"
        )
