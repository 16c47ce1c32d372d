"""Settings for finding, cropping and selecting faces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, TypeAlias

from pydantic import Field

from fer_jax.schemas.fields import Count, Items, NotNegative, Probability, Section

Luma: TypeAlias = Annotated[float, Field(ge=0, le=255)]


class Detector(Section):
    """Settings of the face detector, MTCNN.

    Attributes:
        min_face: side in pixels of the smallest faces to search for. The larger it is, the faster
            the search. Below 12, the detector enlarges the picture. If a picture is reduced before
            it is searched, this side is reduced with it, but not below 20 pixels; a side below
            20 is not changed.
        factor: scale of each level of the image pyramid relative to the previous level.
        thresholds: scores that a candidate must exceed in the networks P-Net, R-Net and O-Net.
        max_faces: maximum number of faces per image; those with the highest scores are kept. 0
            keeps all.
    """

    min_face: Annotated[int, Field(ge=6, le=4096)] = 40
    factor: Annotated[float, Field(ge=0.1, le=0.95)] = 0.709
    thresholds: Annotated[Items[Probability], Field(min_length=3, max_length=3)] = (0.6, 0.7, 0.8)
    max_faces: Count = 0


class Crop(Section):
    """How an aligned face is cropped.

    Attributes:
        size: side of the crop in pixels.
        margin: margin on each side of the template to which landmarks are aligned, as a fraction of
            the template's side.
    """

    size: Annotated[int, Field(ge=8, le=4096)]
    margin: Annotated[float, Field(ge=0, le=2)]


class Negatives(Section):
    """Crops without a face, on which a verifier is trained.

    Attributes:
        per_frame: maximum number of background crops from each sampled frame.
        floor: the score of the detector's last network, O-Net, above which a rejected candidate is
            stored, unless it overlaps a face.
    """

    per_frame: Annotated[int, Field(ge=0, le=1000)]
    floor: Probability


class Limits(Section):
    """Limits that a crop must meet to be kept; the defaults keep all crops.

    The reasons for removal are in quotes.

    Attributes:
        min_size: minimum length in pixels of the shorter side of a face's box; "small" below.
        min_sharpness: minimum of `fer_jax.faces.quality.sharpness`; "blurred" below.
        min_brightness, max_brightness: limits of the mean luma; "dark" below, "bright" above.
        max_yaw: maximum yaw of the head in degrees, to either side; "turned" above.
        min_hash_distance: minimum number of bits, of 64, in which the hash of a crop differs from
            those of the earlier crops of its track that are not removed; "duplicate" below.
        per_track: maximum number of crops that are kept of a track, evenly spread over those that
            meet the other limits; the others are "thinned". 0 keeps all.
    """

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
