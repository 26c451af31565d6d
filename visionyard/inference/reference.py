"""What the model's pictures and predictions looked like, in numbers small enough for the bundle.

A distribution is kept as the shares of the reference below some of its own values ("edges"): that is all that a test of
later pictures against it needs, whatever the distribution is.
"""

from itertools import pairwise
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FeatureReference(_Part):
    """How one number of a picture is spread over the reference pictures.

    Attributes:
        count: Pictures that have it.
        effective_count: As many independent pictures tell as much: frames of one clip resemble each other. In
            [1, count].
        mean: Of all.
        std: Of all.
        edges: Values of the reference, ascending, none twice; the smallest and the largest are among them.
        below: Share of the reference below each edge, in [0, 1].
        up_to: Share at or below it; larger than `below`, and 1 at the last edge.
    """

    count: int = Field(ge=1)
    effective_count: float = Field(ge=1)
    mean: float
    std: float = Field(ge=0)
    edges: list[float] = Field(min_length=1)
    below: list[float]
    up_to: list[float]

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if not len(self.edges) == len(self.below) == len(self.up_to):
            sizes = f"{len(self.edges)}, {len(self.below)}, {len(self.up_to)}"
            raise ValueError(f"edges, below and up_to have {sizes} numbers, expected as many of each")
        if any(one >= other for one, other in pairwise(self.edges)):
            raise ValueError("edges must ascend, none twice")
        if any(not 0 <= below < up_to <= 1 for below, up_to in zip(self.below, self.up_to, strict=True)):
            raise ValueError("below and up_to are shares with below < up_to")
        return self


class EmbeddingReference(_Part):
    """Mean and covariance of the pictures' descriptor (visionyard.monitoring.features), D numbers a picture.

    Attributes:
        count: Pictures.
        mean: D numbers.
        covariance: The lower triangle, row by row: D (D + 1) / 2 numbers.
    """

    count: int = Field(ge=2)
    mean: list[float] = Field(min_length=1)
    covariance: list[float]

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        expected = len(self.mean) * (len(self.mean) + 1) // 2
        if len(self.covariance) != expected:
            raise ValueError(f"covariance has {len(self.covariance)} numbers, expected {expected}")
        return self
