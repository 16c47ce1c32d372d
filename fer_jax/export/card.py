"""The description of an exported model: how to make its input, and what its output means."""

from __future__ import annotations

import json

from pydantic import Field

from fer_jax.faces.alignment import LANDMARKS, template_points
from fer_jax.recogniser import TASK
from fer_jax.records import Inference, ModelRecord
from fer_jax.schemas.faces import Crop
from fer_jax.schemas.fields import Section


class Description(Section):
    """The content of `description.json` and, without the differences, of the ONNX file's metadata.

    Attributes:
        model: the name of the model directory or of the training workdir.
        weights_sha256: the SHA-256 of its weights.safetensors.
        fer_jax: version of the package.
        labels: the emotions, in the order of `probabilities`.
        crop: side of the input in pixels, and its margin (`fer_jax.faces.alignment.align`).
        landmarks: the positions (x, y) of the five points `LANDMARKS` in the crop, in pixels with
            pixel centres at integers; left and right as seen by the viewer.
        image_size: side in pixels to which the exported file resizes crops for the network.
        inference: test crops, zooms, temperature and further inputs of the head, which are part of
            the exported file.
        differences: the largest absolute difference between a probability from the exported file
            and the same one from the model, by format.
    """

    model: str
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    fer_jax: str
    labels: tuple[str, ...]
    crop: Crop
    landmarks: dict[str, tuple[float, float]]
    image_size: int
    inference: Inference
    differences: dict[str, float] = Field(default_factory=dict)

    def with_difference(self, name: str, worst: float) -> Description:
        """A copy in which `worst` is added to `differences`, for the format `name`."""
        return self.model_copy(update={"differences": {**self.differences, name: worst}})

    def notes(self) -> dict[str, str]:
        """Each field except `differences` as JSON text, for the metadata of an ONNX file."""
        fields = self.model_dump(mode="json", exclude={"differences"})
        return {name: json.dumps(value) for name, value in fields.items()}


def describe(record: ModelRecord, *, name: str, sha256: str, version: str) -> Description:
    """The description of a model; its record must have `faces`."""
    assert record.faces is not None, "Recogniser refuses such a model"
    crop = record.faces.crop
    points = template_points(crop.size, crop.margin).tolist()
    return Description(
        model=name,
        weights_sha256=sha256,
        fer_jax=version,
        labels=record.labels[TASK],
        crop=crop,
        landmarks={name: (x, y) for name, (x, y) in zip(LANDMARKS, points, strict=True)},
        image_size=record.image_size,
        inference=record.inference.get(TASK, Inference()),
    )


def text(description: Description) -> str:
    """The text of README.md in an export."""
    crop, how = description.crop, description.inference
    side = crop.size
    points = "\n".join(
        f"| {name} | {x:.2f} | {y:.2f} |" for name, (x, y) in description.landmarks.items()
    )
    labels = "\n".join(f"{row}. {json.dumps(one)}" for row, one in enumerate(description.labels))
    worst = ", ".join(f"{name} {value:.1e}" for name, value in description.differences.items())
    views = 2 * how.crops
    return f"""# An exported emotion model

Written by fer_jax {description.fer_jax} from the model {json.dumps(description.model)}, whose
weights.safetensors has the SHA-256 {description.weights_sha256}.

## Input

`faces`, uint8 [batch, {side}, {side}, 3]: crops of faces, RGB, 0 to 255; any number of them. A crop
is the picture rotated, scaled and shifted so that the landmarks of MTCNN are at these pixels
(least-squares similarity transform, pixel centres at integers; left as seen by the viewer):

| landmark | x | y |
|---|---|---|
{points}

## Output

`probabilities`, float32 [batch, {len(description.labels)}], of these emotions:

{labels}

`features`, float32 [batch, width]: the inputs of the linear head, averaged over {views} views.

The file contains all other steps: it resizes to {description.image_size} pixels, normalises,
averages over {views} views of the face ({how.crops} crops and their mirror images), and calibrates
(temperature {how.temperature:.4g}). Largest difference between a probability from the exported file
and from the model, on generated faces: {worst}.

The model was measured on such crops; on others, it may be less accurate. An answer describes an
expression in a picture, and is not evidence of what a person feels.
"""
