"""Moving windows over the pictures a model is asked about, tested against its reference after every few of them.

How often it may be wrong: `FALSE_ALARMS_PER_PICTURE`, divided among all tests that one picture brings (features and
both windows, every `stride` pictures), is the level of each test. By the union bound the number of false alarms
expected in 100,000 pictures without drift is then at most 0.1, however long the server runs and although windows
overlap; and the more so as an alarm that holds for many tests is one alarm.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from visionyard.inference.bundle import ReferenceStatistics
from visionyard.monitoring.drift_statistics import ReferenceTable, composition_p_value
from visionyard.monitoring.features import CLASS_MIX, EMBEDDING_FEATURE, PictureFeatures, PredictionFeatures
from visionyard.monitoring.features_reference import (
    OTHER_CLASSES,
    Embedding,
    correlation_time,
    group_order,
    joint_correlation_time,
)

FALSE_ALARMS_PER_PICTURE = 1e-6
# An alarm ends when nothing rarer than one in a thousand is left: far from where it begins, so that it does not
# flicker.
CLEARING_P_VALUE = 1e-3
# The short window finds what is plain within its length; the long one finds what is smaller.
_SHORT_WINDOW_PART = 4
_TESTS_PER_WINDOW = 16
# Four long windows, of which a change spoils one.
_REMEMBERED_TESTS = 64


@dataclass(frozen=True)
class FeatureDrift:
    """What the windows say about one feature.

    Attributes:
        feature: A name of visionyard.monitoring.features.
        statistic: Largest difference between window and reference of the share of pictures below any value, 0 to 1.
        p_value: Bound on the chance that a window of pictures without drift differs so much in this feature.
        is_drifted: The alarm is on: `p_value` fell to the level, and has not yet risen above 0.001 again.
        observed_count: Pictures of the window that have the feature.
        reference: Mean over the reference pictures; of `class_mix` objects of the class in an image.
        current: Mean over the window; None without any.
        detail: The class whose count differs most, for `class_mix`.
    """

    feature: str
    statistic: float
    p_value: float
    is_drifted: bool
    observed_count: int
    reference: float
    current: float | None
    detail: str = ""


def _untested(name: str, mean: float) -> FeatureDrift:
    return FeatureDrift(name, 0.0, 1.0, is_drifted=False, observed_count=0, reference=mean, current=None)


class _Window:
    """Running counts of the newest pictures."""

    def __init__(self, table: ReferenceTable, size: int) -> None:
        self._table = table
        self.rows: deque[np.ndarray] = deque()
        self.groups: deque[str] = deque()
        self._size = size
        self._counts = np.zeros(table.places(table.means).shape, dtype=np.int64)
        self._totals = np.zeros(len(table.names), dtype=np.int64)
        self._sums = np.zeros(len(table.names))

    def push(self, row: np.ndarray, places: np.ndarray, group: str) -> None:
        self._add(row, places, 1)
        self.rows.append(row)
        self.groups.append(group)
        if len(self.rows) > self._size:
            gone = self.rows.popleft()
            self.groups.popleft()
            self._add(gone, self._table.places(gone), -1)

    def _add(self, row: np.ndarray, places: np.ndarray, sign: int) -> None:
        self._counts += sign * places
        self._totals += sign * np.isfinite(row)
        self._sums += sign * np.nan_to_num(row)

    def times(self, mix: "_Mix | None") -> np.ndarray:
        """Return the correlation time of each feature, and last that of the mix of classes: (K + 1,)."""
        rows = np.stack(self.rows)
        order = group_order(self.groups) if any(self.groups) else np.arange(len(rows))
        if order is None:  # every picture of a group of its own: the caller says that they are unrelated
            return np.ones(rows.shape[1] + 1)
        ordered = rows[order]
        of_mix = joint_correlation_time(ordered[:, mix.rows]) if mix is not None and mix.is_one_class else 1.0
        return np.append(correlation_time(ordered), of_mix)

    def test(self, mix: "_Mix | None", times: np.ndarray) -> "_WindowTest":
        p_values, statistics = self._table.p_values(self._counts, self._totals, times[:-1])
        means = np.where(self._totals > 0, self._sums / np.maximum(self._totals, 1), np.nan)
        mix_p_value = 1.0
        if mix is not None and mix.is_one_class:
            window = np.rint(self._sums[mix.rows] / times[-1]).astype(np.int64)
            mix_p_value = composition_p_value(window, mix.reference)
        return _WindowTest(p_values, statistics, self._totals.copy(), means, mix_p_value)


class _UsualTimes:
    """Correlation times that the long window had before the pictures in it: what is usual for this traffic.

    A short window holds few scenes and cannot see how long they last. A change of the pictures makes the time of the
    window that it falls into very long, hence the median, and hence not the newest ones.
    """

    def __init__(self) -> None:
        self._times: deque[np.ndarray] = deque(maxlen=_REMEMBERED_TESTS + _TESTS_PER_WINDOW)

    def at_least(self, times: np.ndarray) -> np.ndarray:
        known = list(self._times)
        return np.asarray(np.maximum(times, np.median(known[:-_TESTS_PER_WINDOW] or known, axis=0)))

    def add(self, times: np.ndarray) -> None:
        self._times.append(times)


@dataclass(frozen=True)
class _WindowTest:
    """(K,) each; the last is of the mix of classes as a whole."""

    p_values: np.ndarray
    statistics: np.ndarray
    totals: np.ndarray
    means: np.ndarray
    mix_p_value: float


@dataclass(frozen=True)
class _Mix:
    """The classes in the table: their names and rows, and of a classifier the reference pictures of each."""

    names: list[str]
    rows: slice
    is_one_class: bool
    reference: np.ndarray

    @classmethod
    def of(cls, statistics: ReferenceStatistics) -> "_Mix | None":
        counts = statistics.class_counts
        if not counts:
            return None
        size = min(reference.effective_count for reference in counts.values())
        reference = np.rint([reference.mean * size for reference in counts.values()]).astype(np.int64)
        first = len(statistics.features)
        is_one_class = "object_count" not in statistics.features
        return cls(list(counts), slice(first, first + len(counts)), is_one_class, reference)


class DriftDetector:
    """Holds pictures, one by one, against a reference. Not thread-safe; costs about 0.1 ms a picture.

    Attributes:
        level: p-value at or below which an alarm begins.
        stride: Pictures between two tests.
        features: The newest word on each feature, in the order of the reference, `class_mix` last.
    """

    def __init__(self, statistics: ReferenceStatistics, classes: Sequence[str], *, window: int) -> None:
        """Prepare the windows.

        Args:
            statistics: With `features`; `class_counts` and `embedding` are used where there.
            classes: Names in the order of their ids.
            window: Pictures of the long window; the short one has a quarter.
        """
        self._features = list(statistics.features)
        self._embedding = Embedding(statistics.embedding) if statistics.embedding else None
        self._class_ids = {name: at for at, name in enumerate(classes)}
        self._mix = _Mix.of(statistics)
        counted = {f"{CLASS_MIX}:{name}": reference for name, reference in statistics.class_counts.items()}
        # Frames of the very cameras the model was trained on lie nearer than its held-out ones did: no harm.
        self._table = ReferenceTable({**statistics.features, **counted}, one_sided={EMBEDDING_FEATURE})
        self._windows = [_Window(self._table, size) for size in (window, max(2, window // _SHORT_WINDOW_PART))]
        self._usual = _UsualTimes()
        self._window = window
        self.stride = max(1, window // _TESTS_PER_WINDOW)
        tested = len(self._features) + (self._mix is not None)
        self.level = FALSE_ALARMS_PER_PICTURE * self.stride / (len(self._windows) * max(1, tested))
        self._seen_count = 0
        self.features: dict[str, FeatureDrift] = {
            name: _untested(name, reference.mean) for name, reference in statistics.features.items()
        }
        if self._mix is not None:
            self.features[CLASS_MIX] = _untested(CLASS_MIX, 0.0)

    @property
    def is_drifted(self) -> bool:
        """The alarm of any feature is on."""
        return any(drift.is_drifted for drift in self.features.values())

    def push(self, values: dict[str, float], answer: PredictionFeatures | None, *, group: str = "") -> bool:
        """Take a picture in.

        Args:
            values: Features by name, without `embedding_distance`; those that the reference lacks are passed over.
            answer: For the class mix; None where it is not comparable.
            group: What the caller says the picture belongs to.

        Returns:
            Whether the windows were tested.
        """
        row = np.array([values.get(name, np.nan) for name in self._features] + self._class_counts(answer))
        places = self._table.places(row)
        for window in self._windows:
            window.push(row, places, group)
        self._seen_count += 1
        # Of a few frames of one scene nobody could say how related they are: first the long window has to be full.
        if self._seen_count % self.stride or self._seen_count < self._window:
            return False
        self._test()
        return True

    def values_of(self, names: Sequence[str], picture: PictureFeatures) -> dict[str, float]:
        """Return a picture's features by name, with its distance from the reference."""
        values = dict(zip(names, picture.values.tolist(), strict=True))
        if self._embedding is not None:
            values[EMBEDDING_FEATURE] = self._embedding.distance(picture.descriptor)
        return values

    def _class_counts(self, answer: PredictionFeatures | None) -> list[float]:
        if self._mix is None:
            return []
        names = self._mix.names
        if answer is None:
            return [float("nan")] * len(names)
        counts = np.bincount(answer.class_ids, minlength=len(self._class_ids)).tolist()
        found = [float(counts[self._class_ids[name]]) if name in self._class_ids else 0.0 for name in names]
        if OTHER_CLASSES in names:
            found[names.index(OTHER_CLASSES)] = float(sum(counts) - sum(found))
        return found

    def _test(self) -> None:
        times = [window.times(self._mix) for window in self._windows]
        self._usual.add(times[0])
        tests = [
            window.test(self._mix, self._usual.at_least(own)) for window, own in zip(self._windows, times, strict=True)
        ]
        for row, name in enumerate(self._features):
            test = min(tests, key=lambda test: test.p_values[row])
            self._note(name, test, row, float(test.p_values[row]))
        if self._mix is not None:
            self._judge_mix(tests, self._mix)

    def _judge_mix(self, tests: list[_WindowTest], mix: _Mix) -> None:
        """Take the window that says most, by its rarest class or by the mix as a whole; two ways, so twice the p-value.

        What is shown is the class whose count differs most.
        """
        rarest = [min(1.0, float(test.p_values[mix.rows].min()) * len(mix.names)) for test in tests]
        p_values = [2 * min(one, test.mix_p_value) for one, test in zip(rarest, tests, strict=True)]
        at = int(np.argmin(p_values))
        column = int(tests[at].p_values[mix.rows].argmin())
        self._note(CLASS_MIX, tests[at], mix.rows.start + column, min(1.0, p_values[at]), mix.names[column] or "others")

    def _note(self, name: str, test: _WindowTest, row: int, p_value: float, detail: str = "") -> None:
        mean = float(test.means[row])
        self.features[name] = replace(
            self.features[name],
            statistic=float(test.statistics[row]),
            p_value=p_value,
            is_drifted=p_value <= (CLEARING_P_VALUE if self.features[name].is_drifted else self.level),
            observed_count=int(test.totals[row]),
            reference=float(self._table.means[row]),
            current=None if np.isnan(mean) else mean,
            detail=detail,
        )
