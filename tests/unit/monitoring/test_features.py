"""What is measured of pictures and answers, and the reference made of it."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from visionyard.inference.reference import EmbeddingReference, FeatureReference
from visionyard.monitoring.features import (
    DESCRIPTOR_SIZE,
    PICTURE_FEATURES,
    picture_features,
    prediction_features,
)
from visionyard.monitoring.features_reference import (
    MAX_CLASSES,
    OTHER_CLASSES,
    Embedding,
    correlation_time,
    feature_reference,
    group_order,
    joint_correlation_time,
    picture_references,
    prediction_references,
)
from visionyard.transforms import Classification, Detections

cv2 = pytest.importorskip("cv2")


def _texture(seed: int = 0, size: tuple[int, int] = (300, 400)) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.0))


def _feature(image: np.ndarray, name: str) -> float:
    return float(picture_features(image).values[PICTURE_FEATURES.index(name)])


def test_features_of_a_plain_picture_by_hand() -> None:
    image = np.empty((20, 30, 3), np.uint8)
    image[:] = (200, 100, 50)

    values = dict(zip(PICTURE_FEATURES, picture_features(image).values, strict=True))

    assert (values["width_px"], values["height_px"]) == (30, 20)
    assert values["brightness"] == pytest.approx((0.299 * 200 + 0.587 * 100 + 0.114 * 50) / 255, abs=1e-6)
    assert values["contrast"] == 0
    assert values["sharpness"] == 0
    assert values["saturation"] == pytest.approx(150 / 255, abs=1e-6)
    assert values["red_blue"] == pytest.approx(150 / 255, abs=1e-6)
    assert values["green_magenta"] == pytest.approx((100 - 125) / 255, abs=1e-6)


def test_contrast_of_a_half_black_half_white_picture_is_one_half() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[:10] = 255

    assert _feature(image, "contrast") == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "feature", "direction"),
    [
        pytest.param(lambda image: cv2.GaussianBlur(image, (0, 0), 2.0), "sharpness", -1, id="blur"),
        pytest.param(lambda image: image // 2, "brightness", -1, id="darkness"),
        pytest.param(lambda image: image // 2 + 64, "contrast", -1, id="fog"),
        pytest.param(lambda image: np.repeat(image[..., 1:2], 3, axis=2), "saturation", -1, id="grey"),
        pytest.param(lambda image: (image * np.array([1, 1, 0.5])).astype(np.uint8), "red_blue", 1, id="warm light"),
    ],
)
def test_a_change_moves_its_feature(change: Callable[[np.ndarray], np.ndarray], feature: str, direction: int) -> None:
    image = _texture()

    assert direction * (_feature(np.asarray(change(image)), feature) - _feature(image, feature)) > 0.02


def test_darkness_is_not_taken_for_blur() -> None:
    image = _texture()
    blurred = _feature(np.asarray(cv2.GaussianBlur(image, (0, 0), 1.0)), "sharpness")

    assert abs(_feature(image // 2, "sharpness") - _feature(image, "sharpness")) < 0.05
    assert _feature(image, "sharpness") - blurred > 0.3


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 700), (2, 2), (256, 256), (257, 100), (3000, 2)], ids=lambda size: f"{size[0]}x{size[1]}"
)
def test_every_size_gives_finite_numbers(size: tuple[int, int]) -> None:
    found = picture_features(_texture(size=size))

    assert np.isfinite(found.values).all()
    assert found.descriptor.shape == (DESCRIPTOR_SIZE,)
    assert np.isfinite(found.descriptor).all()


def test_directions_of_edges_are_told_apart() -> None:
    upright = np.zeros((64, 64, 3), np.uint8)
    upright[:, ::8] = upright[:, 1::8] = 255
    lying = np.ascontiguousarray(upright.transpose(1, 0, 2))

    across, down = (picture_features(image).descriptor[-8:] for image in (upright, lying))

    assert across.argmax() != down.argmax()
    assert across.max() > 0.9
    assert across.sum() == pytest.approx(1)


def test_answers_count_from_the_threshold_on() -> None:
    found = Detections(np.zeros((3, 4)), np.array([0, 1, 1]), np.array([0.9, 0.5, 0.1], np.float32))

    counted = prediction_features(found, confidence_threshold=0.5)
    none = prediction_features(found, confidence_threshold=0.95)
    single = prediction_features(Classification(np.array([0.25, 0.75], np.float32)), confidence_threshold=0.5)

    assert counted.values.tolist() == [pytest.approx(0.7), 2]
    assert counted.class_ids.tolist() == [0, 1]
    assert math.isnan(none.values[0])
    assert none.values[1] == 0
    assert single.values[0] == 0.75
    assert single.class_ids.tolist() == [1]


def test_correlation_time_of_known_processes() -> None:
    random = np.random.default_rng(0)
    unrelated = random.normal(size=20_000)
    # x[t] = 0.8 x[t-1] + noise has the integrated autocorrelation time (1 + 0.8) / (1 - 0.8) = 9.
    related = np.zeros(20_000)
    for at in range(1, len(related)):
        related[at] = 0.8 * related[at - 1] + random.normal()
    with_gaps = np.where(random.random(20_000) < 0.1, np.nan, unrelated)

    times = correlation_time(np.stack([unrelated, related, np.ones(20_000), with_gaps], axis=1))

    assert times == pytest.approx([1, 9, 1, 1], rel=0.15)


def test_joint_correlation_time_is_that_of_the_vector() -> None:
    classes = np.repeat(np.random.default_rng(0).integers(0, 4, 2000), 10)

    found = joint_correlation_time(np.eye(4)[classes])

    assert found == pytest.approx(10, rel=0.15)


def test_groups_come_together_in_no_order_of_their_names() -> None:
    groups = ["a", "b", "c", "d", "a", "b"]

    order = group_order(groups)

    assert order is not None
    assert sorted(order.tolist()) == list(range(6))
    ordered = [groups[at] for at in order]
    assert [name for at, name in enumerate(ordered) if at == 0 or ordered[at - 1] != name] == list(
        dict.fromkeys(ordered)
    )
    assert group_order(["a", "b"]) is None


@pytest.mark.parametrize(
    ("values", "edges", "below", "up_to"),
    [
        pytest.param([5.0], [5], [0], [1], id="one"),
        pytest.param([5.0, 5.0, 5.0], [5], [0], [1], id="all the same"),
        pytest.param([1.0, 2.0, 2.0, 4.0, math.nan], [1, 2, 4], [0, 0.25, 0.75], [0.25, 0.75, 1], id="ties and none"),
    ],
)
def test_a_reference_by_hand(values: list[float], edges: list[float], below: list[float], up_to: list[float]) -> None:
    found = feature_reference(np.array(values), None)

    assert found is not None
    assert (found.edges, found.below, found.up_to) == (edges, below, up_to)
    assert found.count == found.effective_count == np.isfinite(values).sum()


def test_a_reference_of_no_value_is_none() -> None:
    assert feature_reference(np.array([np.nan]), None) is None


def test_frames_of_few_clips_count_as_few_pictures() -> None:
    random = np.random.default_rng(0)
    levels = np.repeat(random.normal(size=10), 30) + random.normal(scale=0.1, size=300)
    groups = [f"clip {number // 30}" for number in range(300)]

    found = feature_reference(levels, group_order(groups))

    assert found is not None
    assert found.count == 300
    assert 5 < found.effective_count < 25


def test_distances_of_the_reference_are_those_of_new_pictures() -> None:
    """Distances from a mean that a picture itself is part of would be about a fifth too small here."""
    pictures = [picture_features(_texture(seed, (40, 60))) for seed in range(200)]
    _, embedding = picture_references(pictures[:64], None)
    features, _ = picture_references(pictures[:64], None)
    assert embedding is not None

    new = np.mean([Embedding(embedding).distance(picture.descriptor) for picture in pictures[64:]])

    assert features["embedding_distance"].mean == pytest.approx(new, rel=0.05)


def test_a_pictures_distance_is_taken_from_other_clips() -> None:
    """A clip is one texture with a little noise: within it all pictures are near, a new clip is as far as any other."""
    random = np.random.default_rng(0)

    def clip(seed: int) -> list[np.ndarray]:
        texture = _texture(seed, (40, 60)).astype(int)
        return [np.clip(texture + random.integers(-4, 5, texture.shape), 0, 255).astype(np.uint8) for _ in range(8)]

    pictures = [picture_features(image) for seed in range(40) for image in clip(seed)]
    groups = [f"clip {number // 8}" for number in range(len(pictures))]
    features, embedding = picture_references(pictures[:160], group_order(groups[:160]), groups=groups[:160])
    assert embedding is not None

    new = np.mean([Embedding(embedding).distance(picture.descriptor) for picture in pictures[160:]])

    assert features["embedding_distance"].mean == pytest.approx(new, rel=0.1)


def test_one_picture_has_no_embedding() -> None:
    features, embedding = picture_references([picture_features(_texture())], None)

    assert embedding is None
    assert set(features) == set(PICTURE_FEATURES)


def test_an_embedding_of_another_size_measures_nothing() -> None:
    other = Embedding(EmbeddingReference(count=2, mean=[0.0, 0.0], covariance=[1.0, 0.0, 1.0]))

    assert math.isnan(other.distance(np.zeros(DESCRIPTOR_SIZE)))


def test_rare_classes_count_together() -> None:
    classes = [f"class {number}" for number in range(MAX_CLASSES + 10)]
    answers = [
        prediction_features(Classification(np.eye(len(classes), dtype=np.float32)[number]), confidence_threshold=0)
        for number in [0, *range(len(classes))]
    ]

    features, counts = prediction_references(answers, classes, None)

    assert len(counts) == MAX_CLASSES + 1
    assert counts["class 0"].mean == pytest.approx(2 / len(answers), abs=1e-6)
    assert counts[OTHER_CLASSES].mean == pytest.approx(10 / len(answers), abs=1e-6)
    assert set(features) == {"confidence"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"below": [0.0]}, "have 2, 1, 2 numbers", id="sizes"),
        pytest.param({"edges": [2.0, 1.0]}, "must ascend", id="order"),
        pytest.param({"up_to": [0.5, 1.5]}, "are shares", id="shares"),
    ],
)
def test_a_reference_that_does_not_fit_is_refused(change: dict[str, list[float]], message: str) -> None:
    values = {"count": 2, "effective_count": 2, "mean": 1.5, "std": 0.5}
    lists = {"edges": [1.0, 2.0], "below": [0.0, 0.5], "up_to": [0.5, 1.0]}

    with pytest.raises(ValueError, match=message):
        FeatureReference.model_validate({**values, **lists, **change})


def test_a_covariance_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="covariance has 1 numbers, expected 3"):
        EmbeddingReference(count=2, mean=[0.0, 0.0], covariance=[1.0])
