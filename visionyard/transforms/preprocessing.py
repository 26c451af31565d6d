"""The preprocessing spec: how an image becomes a model's input, written into the bundle and run by every consumer."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from visionyard.errors import ShapeError


@dataclass(frozen=True)
class Placement:
    """Where an image lies in the model's input: input = source * scale + offset.

    Attributes:
        scale_xy: Input pixels per source pixel, horizontally and vertically.
        offset_xy: Input position of the source's top left corner, pixels.
        source_wh: Size of the source image, pixels.
    """

    scale_xy: tuple[float, float]
    offset_xy: tuple[float, float]
    source_wh: tuple[int, int]

    def to_source(self, xyxy: np.ndarray) -> np.ndarray:
        """Turn boxes of the input into boxes of the source image, clipped to it.

        Args:
            xyxy: (N, 4) float, pixels of the model's input.

        Returns:
            (N, 4) float64, pixels of the source image.
        """
        scale = np.array(self.scale_xy * 2, dtype=np.float64)
        offset = np.array(self.offset_xy * 2, dtype=np.float64)
        limit = np.array(self.source_wh * 2, dtype=np.float64)
        return np.clip((np.asarray(xyxy, dtype=np.float64) - offset) / scale, 0.0, limit)


class PreprocessingSpec(BaseModel):
    """How an RGB image becomes the model's input tensor.

    `letterbox` scales the longer side to fit and pads both ends evenly; `shorter_side_crop` scales the shorter side to
    `shorter_side_px` and cuts the centre; `stretch` ignores the shape. `bilinear` samples without smoothing (as
    OpenCV's INTER_LINEAR), `bilinear_antialias` smooths when shrinking (as Pillow's BILINEAR).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    resize: Literal["letterbox", "shorter_side_crop", "stretch"]
    size_hw: tuple[int, int]
    interpolation: Literal["bilinear", "bilinear_antialias"]
    shorter_side_px: int = Field(0, description="For shorter_side_crop: the shorter side before the crop, pixels.")
    pad_value: int = Field(114, ge=0, le=255)
    scale: float = Field(1 / 255, description="Pixels are multiplied by it, then mean is taken off, then divided by std.")
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channel_order: Literal["rgb", "bgr"] = "rgb"

    def apply(self, image: np.ndarray) -> tuple[np.ndarray, Placement]:
        """Turn one image into the model's input.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            (3, height, width) float32 tensor, and where the image lies in it.

        Raises:
            ShapeError: `image` is not (H, W, 3) uint8, or has no pixels.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ShapeError(f"image: expected (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}; use decode_image")
        placed, placement = getattr(self, f"_{self.resize}")(image)
        if self.channel_order == "bgr":
            placed = placed[..., ::-1]
        tensor = placed.astype(np.float32) * np.float32(self.scale)
        if self.mean != (0.0, 0.0, 0.0) or self.std != (1.0, 1.0, 1.0):
            tensor = (tensor - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(tensor.transpose(2, 0, 1)), placement

    def apply_all(self, images: list[np.ndarray]) -> tuple[np.ndarray, list[Placement]]:
        """Turn images into one batch, (N, 3, height, width) float32, with their placements."""
        pairs = [self.apply(image) for image in images]
        height, width = self.size_hw
        batch = np.stack([tensor for tensor, _ in pairs]) if pairs else np.zeros((0, 3, height, width), np.float32)
        return batch, [placement for _, placement in pairs]

    def resize_only(self, image: np.ndarray) -> np.ndarray:
        """Return the placed image as (height, width, 3) uint8 RGB, before scaling and normalising."""
        placed: np.ndarray = getattr(self, f"_{self.resize}")(image)[0]
        return placed

    def _letterbox(self, image: np.ndarray) -> tuple[np.ndarray, Placement]:
        source_height, source_width = image.shape[:2]
        height, width = self.size_hw
        ratio = min(height / source_height, width / source_width)
        inner_width, inner_height = max(1, round(source_width * ratio)), max(1, round(source_height * ratio))
        left, top = (width - inner_width) // 2, (height - inner_height) // 2
        placed = np.full((height, width, 3), self.pad_value, np.uint8)
        placed[top : top + inner_height, left : left + inner_width] = self._scale(image, inner_width, inner_height)
        scale = (inner_width / source_width, inner_height / source_height)
        return placed, Placement(scale, (float(left), float(top)), (source_width, source_height))

    def _shorter_side_crop(self, image: np.ndarray) -> tuple[np.ndarray, Placement]:
        source_height, source_width = image.shape[:2]
        height, width = self.size_hw
        shorter = self.shorter_side_px or min(height, width)
        # The longer side is rounded down, as torchvision's Resize does.
        if source_width <= source_height:
            inner_width, inner_height = shorter, max(1, int(shorter * source_height / source_width))
        else:
            inner_width, inner_height = max(1, int(shorter * source_width / source_height)), shorter
        scale = (inner_width / source_width, inner_height / source_height)
        left, top = round((inner_width - width) / 2.0), round((inner_height - height) / 2.0)
        # Only the part that is kept is scaled: a very wide image would be scaled to gigabytes otherwise.
        box = (left / scale[0], top / scale[1], (left + width) / scale[0], (top + height) / scale[1])
        resample = Image.Resampling.BILINEAR
        placed = np.asarray(Image.fromarray(image).resize((width, height), resample, box=_inside(box, image)))
        return placed, Placement(scale, (-float(left), -float(top)), (source_width, source_height))

    def _stretch(self, image: np.ndarray) -> tuple[np.ndarray, Placement]:
        source_height, source_width = image.shape[:2]
        height, width = self.size_hw
        scale = (width / source_width, height / source_height)
        return self._scale(image, width, height), Placement(scale, (0.0, 0.0), (source_width, source_height))

    def _scale(self, image: np.ndarray, width: int, height: int) -> np.ndarray:
        if image.shape[1] == width and image.shape[0] == height:
            return image
        if self.interpolation == "bilinear":
            return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _inside(box: tuple[float, float, float, float], image: np.ndarray) -> tuple[float, float, float, float]:
    height, width = image.shape[:2]
    left, top, right, bottom = box
    return max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom)
