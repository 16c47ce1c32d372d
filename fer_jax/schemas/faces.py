"""How faces are found, cut out and chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, TypeAlias

from pydantic import Field

from fer_jax.schemas.fields import Count, Items, NotNegative, Probability, Section

Luma: TypeAlias = Annotated[float, Field(ge=0, le=255)]


class Detector(Section):
    """See fer_jax/faces/mtcnn.py. Faces below 12 pixels make the detector enlarge the picture."""

    min_face: Annotated[int, Field(ge=6, le=4096)] = 20  # pixels
    factor: Annotated[float, Field(ge=0.1, le=0.95)] = 0.709
    thresholds: Annotated[Items[Probability], Field(min_length=3, max_length=3)] = (0.6, 0.7, 0.8)
    max_faces: Count = 0


class Crop(Section):
    """How a face is cut out."""

    size: Annotated[int, Field(ge=8, le=4096)]  # pixels
    margin: Annotated[float, Field(ge=0, le=2)]  # part of the template's side


class Negatives(Section):
    """Crops without a face."""

    per_frame: Annotated[int, Field(ge=0, le=1000)]
    floor: Probability


class Limits(Section):
    """See fer_jax/faces/selection.py."""

    min_size: NotNegative = 0.0
    min_sharpness: NotNegative = 0.0
    min_brightness: Luma = 0.0
    max_brightness: Luma = 255.0
    max_yaw: Annotated[float, Field(ge=0, le=180)] = 90.0
    min_hash_distance: Annotated[int, Field(ge=0, le=64)] = 0
    per_track: Count = 0

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.min_brightness > self.max_brightness:
            yield "min_brightness", f"must be at most max_brightness={self.max_brightness}"
