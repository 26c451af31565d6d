"""Whether a champion can answer for what a new model is tested on, and how it does."""

from collections.abc import Sequence

import numpy as np

from visionyard.inference import Predictor
from visionyard.inference.bundle import BundleManifest
from visionyard.transforms import Content, Placement, TablePreprocessing
from visionyard.transforms.rows import shown_columns

_WAY_OUT = "they cannot be compared: give the new model a name of its own in promotion.model"


def difference(champion: BundleManifest, new: BundleManifest) -> str:
    """Return why a champion cannot answer, as the end of a sentence about it, with the way out; empty where it can.

    Args:
        champion: The manifest of its bundle.
        new: That of the bundle on whose test split it would be judged.
    """
    if champion.classes != new.classes or champion.task != new.task:
        return (
            f"knows the classes {', '.join(champion.classes)} ({champion.task}), the new model "
            f"{', '.join(new.classes)} ({new.task}); {_WAY_OUT}"
        )
    before, after = champion.preprocessing, new.preprocessing
    if before.item != after.item:
        return f"looks at {before.item}s, the new model at {after.item}s; {_WAY_OUT}"
    if isinstance(before, TablePreprocessing) and isinstance(after, TablePreprocessing):
        known, given = ({one.name: one.type for one in spec.columns} for spec in (before, after))
        # Any value has a text, so that a column of categories takes those of all types.
        changed = [name for name in known if name not in given or known[name] not in {given[name], "categorical"}]
        if changed:
            return (
                f"was trained on other columns than the new model: they differ in {shown_columns(changed)}; "
                f"{_WAY_OUT}, "
                "and mind that types found by content change as a table grows, those of a schema.yaml beside it not"
            )
    return ""


def on_its_columns(champion: Predictor) -> Predictor:
    """Return a champion that takes rows with further columns, which a newer table may have and it does not know."""
    if not isinstance(champion.preprocessing, TablePreprocessing):
        return champion
    return _Narrow(champion.backend, champion.preprocessing, champion.postprocessing, champion.classes)


class _Narrow(Predictor):
    def respond(self, images: Sequence[Content]) -> tuple[list[np.ndarray], list[Placement]]:
        assert isinstance(self.preprocessing, TablePreprocessing)
        names = [column.name for column in self.preprocessing.columns]
        return super().respond([{name: row[name] for name in names} for row in images])
