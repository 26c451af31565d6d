"""What the columns of a table are: types, the target, roles; inferred, or given by a schema file beside the table.

`schema.yaml` (or .yml, .json), or `<table>.schema.yaml`, is closed: a key that is not known is a mistake, and all
mistakes are told at once.

```yaml
target: species            # else data.target
task: classification       # or regression; left out: by the target's type
group: individual_id       # rows of one value never stand in two splits
split: subset              # train, val, test as published, for data.split_mode = published
ignore: [sample_number]    # kept in the table, no feature
missing: ["NA", "", "?"]   # what stands for a missing value; left out: the usual marks
columns:                   # those not named are inferred
  sex: {type: categorical, values: [male, female]}
  body_mass_g: {type: numeric, min: 0}
```
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from visionyard.config.loading import ConfigReader
from visionyard.config.run_config import Section
from visionyard.errors import ConfigError

ColumnType = Literal["numeric", "categorical", "boolean", "text"]
TableTask = Literal["classification", "regression"]
Role = Literal["feature", "target", "group", "split", "ignored"]
# Excel, R, pandas and SQL. The bare word None is left to the data: in some it is a category.
USUAL_MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "?")
MANIFEST_KEY = "schema"
_BOUNDS = ("minimum", "maximum")


class ColumnRules(Section):
    """What a schema file says of one column."""

    type: ColumnType = Field(description="numeric, categorical, boolean, or text, which is no feature.")
    values: list[str] = Field(default_factory=list, description="The categories allowed; empty allows all.")
    min: float | None = Field(None, description="Least number allowed.")
    max: float | None = Field(None, description="Greatest number allowed.")

    @model_validator(mode="after")
    def _rules_fit_the_type(self) -> Self:
        if self.values and self.type != "categorical":
            raise ValueError(f"values are for type categorical, this is {self.type}")
        if (self.min is not None or self.max is not None) and self.type != "numeric":
            raise ValueError(f"min and max are for type numeric, this is {self.type}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self


class SchemaFile(Section):
    """A schema file."""

    target: str = Field("", description="The column to be learnt; empty takes data.target.")
    task: TableTask | None = Field(None, description="classification or regression; none: by the target's type.")
    group: str = Field("", description="Column whose value names a row's group; empty: each row is its own.")
    split: str = Field("", description="Column with the published split.")
    ignore: list[str] = Field(default_factory=list, description="Columns that are no features.")
    missing: list[str] = Field(
        default_factory=lambda: list(USUAL_MISSING), description="Texts that stand for a missing value."
    )
    columns: dict[str, ColumnRules] = Field(default_factory=dict, description="Types; those not named are inferred.")

    @model_validator(mode="after")
    def _one_role_a_column(self) -> Self:
        named = [name for name in (self.target, self.group, self.split, *self.ignore) if name]
        repeated = sorted({name for name in named if named.count(name) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)}: a column is either target, group, split or ignored")
        return self


_READER = ConfigReader(
    SchemaFile, prefix="VISIONYARD_TABLE_SCHEMA_", example="target=species", way_out="write one, or leave it out"
)


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: As in the header, stripped.
        type: How its values are stored and meant.
        role: What it is for.
        evidence: What showed its type, for a person.
        values: Categories in the order of their ids, sorted; empty for other types.
        missing_count: Rows without a value.
        minimum: Least number that counts as one, by the schema file; None: any.
        maximum: Greatest number that counts as one, by the schema file; None: any.
    """

    name: str
    type: ColumnType
    role: Role
    evidence: str
    values: tuple[str, ...] = ()
    missing_count: int = 0
    minimum: float | None = None
    maximum: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values; bounds only where there are any."""
        values = asdict(self)
        return {name: value for name, value in values.items() if not (name in _BOUNDS and value is None)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the column that `to_json` described."""
        return cls(**{**values, "values": tuple(values["values"])})

    @property
    def is_feature(self) -> bool:
        """Whether a model learns from it; text is kept, and no feature."""
        return self.role == "feature" and self.type != "text"


@dataclass(frozen=True)
class TableSchema:
    """All columns of a table in the order of its header.

    Attributes:
        task: What is learnt of the target.
        columns: One of them has the role `target`.
        missing: Texts that stand for a missing value.
    """

    task: TableTask
    columns: tuple[Column, ...]
    missing: tuple[str, ...] = USUAL_MISSING

    @property
    def target(self) -> Column:
        """The column to be learnt."""
        return next(column for column in self.columns if column.role == "target")

    @property
    def features(self) -> tuple[Column, ...]:
        """The columns that a model learns from."""
        return tuple(column for column in self.columns if column.is_feature)

    def of_role(self, role: Role) -> Column | None:
        """Return the first column of a role; None when there is none."""
        return next((column for column in self.columns if column.role == role), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; the missing marks only where they are not the usual ones."""
        values = {"task": self.task, "columns": [column.to_json() for column in self.columns]}
        return values if self.missing == USUAL_MISSING else {**values, "missing": list(self.missing)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the schema that `to_json` described."""
        columns = tuple(Column.from_json(column) for column in values["columns"])
        return cls(values["task"], columns, tuple(values.get("missing", USUAL_MISSING)))


def load_schema_file(path: Path) -> SchemaFile:
    """Read a schema file.

    Raises:
        ConfigError: It is no YAML or JSON mapping, or has mistakes; it lists them all.
    """
    try:
        return _READER.load(path, (), {})
    except ConfigError as error:
        raise ConfigError([f"{path.name}: {problem.removeprefix(f'{path}: ')}" for problem in error.problems]) from None


def check_names(rules: SchemaFile, names: Sequence[str], *, target: str, file: str) -> str:
    """Return the target's name, having checked all names of a schema against the table's columns.

    Args:
        rules: Of the schema file, or empty ones.
        names: Columns of the table.
        target: Of the run config; the schema file's wins when both say the same, else it is a mistake.
        file: The table's name, for messages.

    Raises:
        ConfigError: Names are not there, or there is no target; it lists all mistakes.
    """
    mistakes = []
    wanted = rules.target or target
    if rules.target and target and rules.target != target:
        mistakes.append(f"data.target = {target!r}: the schema file says {rules.target!r}; make them one")
    if not wanted:
        mistakes.append(f"data.target: a table needs the column to be learnt; {file} has {', '.join(names)}")
    places = {
        "target": [wanted] if wanted else [],
        "group": [rules.group] if rules.group else [],
        "split": [rules.split] if rules.split else [],
        "ignore": rules.ignore,
        "columns": list(rules.columns),
    }
    for place, listed in places.items():
        unknown = [name for name in listed if name not in names]
        mistakes += [f"{place}: there is no column {name!r} in {file}; it has {', '.join(names)}" for name in unknown]
    if wanted in {rules.group, rules.split, *rules.ignore} - {""}:
        mistakes.append(f"{wanted!r} is the target, so it is neither group, split nor ignored")
    if mistakes:
        raise ConfigError(mistakes)
    return wanted
