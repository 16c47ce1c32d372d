"""The settings of finding, cropping and selecting faces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, TypeAlias

from pydantic import Field

from fer_jax.schemas.fields import Count, Items, NotNegative, Probability, Section

Luma: TypeAlias = Annotated[float, Field(ge=0, le=255)]


class Detector(Section):
    """The settings of MTCNN.

    Attributes:
        min_face: side in pixels of the smallest faces to detect. Below 12, the detector enlarges
            the picture. A larger value is faster and misses only smaller faces. If pictures are
            reduced first, it counts in pixels of the original picture.
        factor: scale from one level of the pyramid to the next.
        thresholds: the lowest scores that pass the networks P-Net, R-Net and O-Net.
        max_faces: the maximum number of faces per image, those with the highest scores; 0: all.
    """

    min_face: Annotated[int, Field(ge=6, le=4096)] = 40
    factor: Annotated[float, Field(ge=0.1, le=0.95)] = 0.709
    thresholds: Annotated[Items[Probability], Field(min_length=3, max_length=3)] = (0.6, 0.7, 0.8)
    max_faces: Count = 0


class Crop(Section):
    """How an aligned face is cropped.

    Attributes:
        size: side of the crop in pixels.
        margin: margin around the face, as a fraction of the template's side.
    """

    size: Annotated[int, Field(ge=8, le=4096)]
    margin: Annotated[float, Field(ge=0, le=2)]


class Negatives(Section):
    """Crops without a face, on which a verifier is trained.

    Attributes:
        per_frame: the maximum number of crops of the background of each sampled frame.
        floor: candidates that the detector rejects are stored if their score is at least this.
    """

    per_frame: Annotated[int, Field(ge=0, le=1000)]
    floor: Probability


class Limits(Section):
    """Limits for crops to be kept; the defaults keep all. Reasons for rejection are in quotes.

    Attributes:
        min_size: minimum of the shorter side of a face in pixels; "small" below.
        min_sharpness: see `fer_jax.faces.quality.sharpness`; "blurred" if it is below.
        min_brightness, max_brightness: limits of the mean luma; "dark" below, "bright" above.
        max_yaw: degrees to either side; "turned" if it is above.
        min_hash_distance: in how many bits a crop's hash must differ from the hashes of all crops
            that were kept from its track; "duplicate" if it differs in fewer.
        per_track: how many crops of a track are kept, evenly spread over it; the others are
            "thinned". 0 keeps all.
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
