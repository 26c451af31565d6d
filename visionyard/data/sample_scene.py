"""What the sample clips show: real handwritten digits that travel over real photographs, seen by a moving camera."""

import gzip
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from visionyard.errors import DataError

# They lie inside the wheels, so that nothing is fetched; skimage.data's own functions would download a missing one.
PHOTOGRAPHS = (
    ("sklearn", "datasets/images/china.jpg"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/brick.png"),
    ("skimage", "data/rocket.jpg"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/gravel.png"),
    ("skimage", "data/retina.jpg"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/coins.png"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/grass.png"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/moon.png"),
    ("skimage", "data/camera.png"),
)
SCANS = ("sklearn", "datasets/data/digits.csv.gz")
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# A scan has 8x8 cells; a stamp draws each CELL_PX wide, with MARGIN_CELLS of room for outline and shadow.
CELL_PX = 10
MARGIN_CELLS = 2
# Light and dark inks, all far from the greys of the photographs.
INKS_RGB = (
    (255, 214, 10),
    (255, 255, 255),
    (255, 94, 58),
    (52, 199, 89),
    (10, 132, 255),
    (191, 90, 242),
    (255, 55, 95),
    (30, 30, 34),
    (100, 210, 255),
)
# The shutter stays open for half of a frame's time, as film cameras do ("180 degrees").
SHUTTER = 0.5
SUBFRAME_COUNT = 3


@dataclass(frozen=True)
class Stamp:
    """A digit ready to be put into a picture.

    Attributes:
        rgba: (S, S, 4) float32, premultiplied by alpha, colours in [0, 255]: ink, outline and shadow.
        mask: (S, S) float32 in [0, 1]: ink and outline, which the box encloses.
    """

    rgba: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Actor:
    """A digit's part in a clip: it comes in, turns and grows on its way, and leaves.

    Attributes:
        class_name: Which digit it is.
        stamp: How it looks.
        first_frame: When it comes in; may be negative, so that a clip does not open empty.
        frame_count: How long it stays.
        path_xy: (3, 2) control points of a quadratic Bezier curve, pixels.
        scales: Size at its start and at its end, in stamp sizes.
        tilt_deg: Mean rotation.
        swing_deg: How far it swings about the mean.
    """

    class_name: str
    stamp: Stamp
    first_frame: int
    frame_count: int
    path_xy: np.ndarray
    scales: tuple[float, float]
    tilt_deg: float
    swing_deg: float

    def is_on(self, time: float) -> bool:
        """Return whether it takes part at `time`, in frames."""
        return self.first_frame <= time <= self.first_frame + self.frame_count

    def scale(self, time: float) -> float:
        """Return its size at `time`, in stamp sizes."""
        return float(np.interp(self._share(time), (0, 1), self.scales))

    def matrix(self, time: float) -> np.ndarray:
        """Return the (2, 3) affine map from stamp to picture pixels at `time`, in frames."""
        share = self._share(time)
        # Slow in the middle of its way and quick at the ends, where it is half out of sight.
        along = 2 * share - 1
        u = 0.5 + 0.5 * np.sign(along) * abs(along) ** 1.8
        x, y = (1 - u) ** 2 * self.path_xy[0] + 2 * u * (1 - u) * self.path_xy[1] + u**2 * self.path_xy[2]
        angle_deg = self.tilt_deg + self.swing_deg * np.sin(2 * np.pi * share)
        center = (len(self.stamp.mask) - 1) / 2
        matrix = cv2.getRotationMatrix2D((center, center), angle_deg, self.scale(time))
        matrix[:, 2] += (x - center, y - center)
        return matrix

    def _share(self, time: float) -> float:
        return (time - self.first_frame) / self.frame_count


@dataclass(frozen=True)
class Camera:
    """The view of a photograph: a window that pans and zooms, with the noise of a small sensor.

    Attributes:
        photo: (H, W, 3) uint8 RGB.
        windows_cxcyw: (2, 3) centre and width of the window at the first and at the last frame, pixels of the photo.
        noise: (2h, 2w, 3) float32, added from a random place in each frame.
        gain: Exposure; 1 leaves the photo as it is.
    """

    photo: np.ndarray
    windows_cxcyw: np.ndarray
    noise: np.ndarray
    gain: float

    def background(self, share: float, size_hw: tuple[int, int]) -> np.ndarray:
        """Return the (h, w, 3) float32 view after `share` of the clip, in [0, 1]."""
        height, width = size_hw
        x, y, window = (1 - share) * self.windows_cxcyw[0] + share * self.windows_cxcyw[1]
        step = window / width
        inverse = np.array([[step, 0, x - step * width / 2], [0, step, y - step * height / 2]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        view = cv2.warpAffine(self.photo, inverse, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)
        return view.astype(np.float32) * self.gain


def read_photograph(index: int, size_hw: tuple[int, int]) -> np.ndarray:
    """Return a photograph as (H, W, 3) uint8 RGB, about half as large again as the picture it is a background of.

    Args:
        index: Any whole number; counts through `PHOTOGRAPHS` and starts over.
        size_hw: Height and width of the picture.

    Raises:
        DataError: The package that carries it is not installed, or the file is not in it.
    """
    return _fitted(_inside_package(*PHOTOGRAPHS[index % len(PHOTOGRAPHS)]), size_hw)


@lru_cache(maxsize=len(PHOTOGRAPHS))
def _fitted(path: Path, size_hw: tuple[int, int]) -> np.ndarray:
    bgr = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise DataError(f"{path}: expected a photograph, got another kind of file; install visionyard[all] again")
    scale = 1.5 * max(size_hw[0] / bgr.shape[0], size_hw[1] / bgr.shape[1])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    rgb = np.ascontiguousarray(cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=method)[:, :, ::-1])
    # Shared by all who ask for it.
    rgb.flags.writeable = False
    return rgb


def read_scans() -> dict[str, np.ndarray]:
    """Return scikit-learn's scans of handwritten digits by name: (N, 8, 8) float32 in [0, 1], about 180 of each.

    Raises:
        DataError: scikit-learn is not installed, or its file is not in it.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, 1998, test part; doi:10.24432/C50P49.
    """
    # Its own reader would import all of scikit-learn first, which takes seconds where nothing is compiled yet.
    with gzip.open(_inside_package(*SCANS)) as stream:
        table = np.loadtxt(stream, delimiter=",", dtype=np.float32)
    scans = table[:, :-1].reshape(-1, 8, 8) / 16
    return {name: scans[table[:, -1] == value] for value, name in enumerate(DIGIT_NAMES)}


def make_stamp(scan: np.ndarray, ink_rgb: tuple[int, int, int]) -> Stamp:
    """Draw a scan large and smooth, with an outline that keeps it legible on any ground, and a soft shadow.

    Args:
        scan: (8, 8) float32 in [0, 1].
        ink_rgb: Colour of the ink.
    """
    padded = np.pad(scan, MARGIN_CELLS)
    side = CELL_PX * len(padded)
    smooth = cv2.GaussianBlur(cv2.resize(padded, (side, side), interpolation=cv2.INTER_CUBIC), (0, 0), 0.2 * CELL_PX)
    ink = _smoothstep(smooth, 0.42, 0.54)
    ring = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    mask = cv2.GaussianBlur(cv2.dilate(ink, ring), (0, 0), 0.8)
    shadow = 0.5 * cv2.GaussianBlur(np.roll(mask, (4, 3), axis=(0, 1)), (0, 0), 4.0)
    light = sum(ink_rgb) > 300
    shading = np.linspace(1.08, 0.88, side, dtype=np.float32)[:, None, None]
    colour = np.clip(np.asarray(ink_rgb, np.float32) * shading, 0, 255)
    outline = np.full(3, 25.0 if light else 245.0, np.float32)
    # Each layer covers what lies below it: shadow, outline, ink.
    rgb = (outline * mask[..., None]) * (1 - ink[..., None]) + colour * ink[..., None]
    alpha = mask + shadow * (1 - mask)
    return Stamp(rgba=np.dstack([rgb, alpha]).astype(np.float32), mask=mask)


def render(
    camera: Camera, actors: list[Actor], frame_index: int, frame_count: int, size_hw: tuple[int, int]
) -> np.ndarray:
    """Return one frame without noise; digits are blurred by their way while the shutter is open.

    Args:
        camera: The background.
        actors: Later ones lie on top.
        frame_index: From 0.
        frame_count: Of the clip.
        size_hw: Height and width of the frame.

    Returns:
        (h, w, 3) float32 RGB, about [0, 255].
    """
    picture = camera.background(frame_index / frame_count, size_hw)
    for actor in actors:
        if actor.is_on(frame_index):
            _lay_on(picture, actor, frame_index)
    return picture


def masks(actors: list[Actor], frame_index: int, size_hw: tuple[int, int]) -> list[np.ndarray | None]:
    """Return which pixels each actor's ink takes at the middle of a frame's exposure, whatever lies on top of it.

    Returns:
        An (h, w) bool array for each actor; None for one that is not there.
    """
    found: list[np.ndarray | None] = []
    for actor in actors:
        if actor.is_on(frame_index):
            size_wh = size_hw[::-1]
            found.append(cv2.warpAffine(actor.stamp.mask, actor.matrix(frame_index), size_wh) > 0.5)
        else:
            found.append(None)
    return found


def _lay_on(picture: np.ndarray, actor: Actor, frame_index: int) -> None:
    """Draw an actor into `picture` as the open shutter sees it, touching only the pixels about it."""
    times = frame_index + np.linspace(-SHUTTER / 2, SHUTTER / 2, SUBFRAME_COUNT)
    matrices = [actor.matrix(float(time)) for time in times]
    side = len(actor.stamp.mask)
    square = np.array([[0, side, 0, side], [0, 0, side, side], [1, 1, 1, 1]])
    corners = np.hstack([matrix @ square for matrix in matrices])
    limits = np.array([picture.shape[1], picture.shape[0]])
    low = np.clip(np.floor(corners.min(axis=1)), 0, limits).astype(int)
    high = np.clip(np.ceil(corners.max(axis=1)) + 1, 0, limits).astype(int)
    if (high <= low).any():
        return
    width, height = (int(side) for side in high - low)
    layer = np.zeros((height, width, 4), np.float32)
    for matrix in matrices:
        matrix[:, 2] -= low
        layer += cv2.warpAffine(actor.stamp.rgba, matrix, (width, height))
    layer /= SUBFRAME_COUNT
    region = picture[low[1] : high[1], low[0] : high[0]]
    region *= 1 - layer[..., 3:]
    region += layer[..., :3]


def _inside_package(package: str, inside: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise DataError(f"{package}: not installed, but the sample is made of what it carries; install visionyard[all]")
    path = Path(spec.origin).parent / inside
    if not path.is_file():
        raise DataError(f"{path}: expected a file that {package} carries, found none; install visionyard[all] again")
    return path


def _smoothstep(values: np.ndarray, low: float, high: float) -> np.ndarray:
    share = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)
