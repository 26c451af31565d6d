"""The plugin of tables: classes of rows, learnt by a small residual network in the platform's own loop."""

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from visionyard.config import Section
from visionyard.data.dataset import DatasetVersion
from visionyard.data.tables import TableDataset
from visionyard.data.tables.fitting import fit_preprocessing
from visionyard.models.plugin import ModelPlugin, PluginInfo, Preset, Recipe, TrainingPlan, TrainingSession
from visionyard.models.tabular.encoded import EncodedRows
from visionyard.transforms import ClassificationPostprocessing, Postprocessing, Preprocessing, TablePreprocessing
from visionyard.transforms.rows import MISSING_ID, UNSEEN_ID

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

_PREPROCESSING = "preprocessing"
# Width and depth; the paper's search ended between 64 and 512 values and 1 to 8 blocks.
_SIZES = {"small": (64, 2), "medium": (192, 4), "large": (384, 6)}


class TabularOptions(Section):
    """Options of tabular-classification."""

    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout within the blocks; more for few rows.")
    hidden_values: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Share of the values hidden from each training row, so that the model does without one that is "
        "missing, or a category that it never saw.",
    )
    embedding_size: int = Field(8, ge=1, le=256, description="Numbers that stand for a category.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Probability taken from the true class.")


class TabularClassification(ModelPlugin):
    """Classes of a table's rows."""

    info: ClassVar[PluginInfo] = PluginInfo(
        name="tabular-classification",
        task="table_classification",
        description="Classes of a table's rows by a residual network, in Visionyard's own training loop.",
        licence="Apache-2.0",
        extra="train",
        presets={
            "small": Preset("2 blocks of 64 values, for hundreds to thousands of rows", 0, 32, 0.003),
            "medium": Preset("4 blocks of 192 values, for tens of thousands", 0, 256, 0.002),
            "large": Preset("6 blocks of 384 values, for more", 0, 1024, 0.001),
        },
        default_preset="small",
        weights="None: columns and categories differ from table to table, so training starts from scratch.",
        takes_weights=False,
    )
    options_model = TabularOptions

    def fitted(self, dataset: DatasetVersion) -> dict[str, Any]:
        """Return the preprocessing of the rows, fitted on the train split."""
        assert isinstance(dataset, TableDataset)  # its task was compared with this plugin's
        return {_PREPROCESSING: fit_preprocessing(dataset).model_dump(mode="json")}

    def check_plan(self, plan: TrainingPlan) -> list[str]:
        """Return what in a plan is for images, or for weights that could not fit."""
        problems = []
        if plan.image_size_px:
            problems.append(f"training.image_size_px = {plan.image_size_px}: rows have no pixels; leave it out")
        if plan.weights:
            problems.append(f"model.weights = {plan.weights!r}: {self.info.name} takes {self.info.weights.lower()}")
        return problems

    def train(self, session: TrainingSession) -> None:
        """Train by the platform's loop."""
        from torch import nn

        plan = session.plan
        options = self._options(plan)
        preprocessing = _preprocessing(plan)
        assert isinstance(session.dataset, TableDataset)
        session.fit(
            Recipe(
                module=self.build(plan),
                loss=nn.CrossEntropyLoss(label_smoothing=options.label_smoothing),
                augment=_HideValues(preprocessing, options.hidden_values),
                preprocessing=None,
                examples=EncodedRows(session.dataset, preprocessing, session.scratch),
            )
        )

    def build(self, plan: TrainingPlan) -> "nn.Module":
        """Return the network with random weights."""
        from visionyard.models.tabular.network import TabularResNet

        options, preprocessing = self._options(plan), _preprocessing(plan)
        width, depth = _SIZES[plan.preset]
        return TabularResNet(
            number_count=len(preprocessing.numeric),
            id_counts=[column.id_count for column in preprocessing.others],
            class_count=len(plan.classes),
            width=width,
            depth=depth,
            embedding_size=options.embedding_size,
            dropout=options.dropout,
        )

    def specs(self, plan: TrainingPlan, module: "nn.Module") -> tuple[Preprocessing, Postprocessing]:
        """Return the preprocessing as it was fitted, and softmax."""
        return _preprocessing(plan), ClassificationPostprocessing(activation="softmax")

    def _options(self, plan: TrainingPlan) -> TabularOptions:
        options = self.parse_options(plan.options)
        assert isinstance(options, TabularOptions)
        return options


def _preprocessing(plan: TrainingPlan) -> TablePreprocessing:
    return TablePreprocessing.model_validate(plan.architecture[_PREPROCESSING])


class _HideValues:
    """A training transform that hides values at random; it can be sent to loader processes."""

    def __init__(self, preprocessing: TablePreprocessing, share: float) -> None:
        self._number_count = len(preprocessing.numeric)
        self._column_count = len(preprocessing.columns)
        self._share = share

    def __call__(self, values: "np.ndarray") -> "Tensor":
        """Return the (F,) float32 input of a row, some values as if missing, some categories as if not seen."""
        import torch

        row = torch.from_numpy(values)
        is_hidden = torch.rand(self._column_count) < self._share
        hidden_numbers, hidden_ids = is_hidden[: self._number_count], is_hidden[self._number_count :]
        row[: self._number_count][hidden_numbers] = 0.0
        row[self._number_count : 2 * self._number_count][hidden_numbers] = 1.0
        are_missing = torch.rand(len(hidden_ids)) < 0.5
        stand_ins = torch.where(are_missing, float(MISSING_ID), float(UNSEEN_ID))
        row[2 * self._number_count :][hidden_ids] = stand_ins[hidden_ids]
        return row
