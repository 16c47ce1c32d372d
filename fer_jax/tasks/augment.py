"""Augmentation on the device: pure functions of a key and a batch of images.

Images are `[B, H, W, 3]`, RGB in 0..255. `random_flip` and the methods of `Augment` accept uint8
and float; the methods return float32 or wider, except `flipped`, which keeps the type, as
`random_flip` does. The other functions accept only float images and keep their type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num, PRNGKeyArray
from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from fer_jax.schemas.fields import (
    STRICT,
    Probability,
    Share,
    ShareBelowOne,
    collected,
    raise_collected,
)

# Weights of ITU-R BT.601 luma.
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, config=STRICT)
class Augment:
    """Strengths of the augmentation; an operation is not compiled if its strengths are 0.

    Attributes:
        flip: probability of mirroring.
        zoom: the scale is drawn from 1 - zoom .. 1 + zoom, the same for both axes.
        shift: the translation along each axis is the image's side times a number drawn from
            -shift .. shift.
        turn: the rotation is drawn from -turn .. turn degrees, at most 45.
        brightness: 127.5 times a number drawn from -brightness .. brightness is added.
        contrast: the distance from the image's mean is multiplied by a number drawn from
            1 - contrast .. 1 + contrast.
        saturation: the distance from grey is multiplied by a number drawn from 1 - saturation ..
            1 + saturation.
        grey: probability of conversion to grey.
        erase: probability that a square is replaced by the image's mean colour (Zhong et al. 2017);
            its side is 1/8 to 3/8 of the image's.
    """

    flip: Probability = 0.0
    zoom: ShareBelowOne = 0.0
    shift: Share = 0.0
    turn: Annotated[float, Field(ge=0, le=45)] = 0.0
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    grey: Probability = 0.0
    erase: Probability = 0.0

    def __call__(self, key: PRNGKeyArray, images: Num[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
        """Augments each image independently, for training; float32 or wider, in 0..255."""
        flip_key, other_key = jax.random.split(key)
        return self.unflipped(other_key, self.flipped(flip_key, images))

    def evaluation(self, images: Num[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
        """The images without augmentation, for evaluation, as float."""
        return _float(images)

    def flipped(self, key: PRNGKeyArray, images: Num[Array, "b h w 3"]) -> Num[Array, "b h w 3"]:
        """The images, each mirrored with probability `flip`, in their own type."""
        return random_flip(key, images, self.flip) if self.flip else images

    def unflipped(
        self, key: PRNGKeyArray, images: Num[Array, "b h w 3"]
    ) -> Float[Array, "b h w 3"]:
        """The images after all operations except mirroring, as float.

        Tasks use it if mirroring has to come earlier or would change the class.
        """
        place, colour, grey, erase = jax.random.split(key, 4)
        images = _float(images)
        if self.zoom or self.shift or self.turn:
            images = random_place(place, images, self.zoom, self.shift, self.turn)
        if self.brightness or self.contrast or self.saturation:
            images = random_colour(colour, images, self.brightness, self.contrast, self.saturation)
        if self.grey:
            images = random_grey(grey, images, self.grey)
        if self.erase:
            images = random_erase(erase, images, self.erase)
        return images


def _of_mapping(value: Any) -> Any:
    errors: list[Any] = []
    if isinstance(value, Mapping):
        with collected(errors):
            value = Augment(**value)
    raise_collected(errors)
    return value


Augmentation: TypeAlias = Annotated[Augment, BeforeValidator(_of_mapping)]
"""A task's field `augment`: an `Augment` or a mapping of its fields."""

FLIPPED = Augment(flip=0.5)
MODERATE = Augment(flip=0.5, zoom=0.1, shift=0.05, turn=8.0, brightness=0.2, contrast=0.2)


def random_flip(
    key: PRNGKeyArray, images: Num[Array, "b h w 3"], probability: float
) -> Num[Array, "b h w 3"]:
    """Mirrors each image horizontally with this probability."""
    return jnp.where(_choose(key, images, probability), images[:, :, ::-1], images)


def random_place(
    key: PRNGKeyArray, images: Float[Array, "b h w 3"], zoom: float, shift: float, turn: float
) -> Float[Array, "b h w 3"]:
    """Scales and rotates each image about its centre and shifts it, at random (see `placed`)."""
    batch, height, width = images.shape[:3]
    zoom_key, shift_key, turn_key = jax.random.split(key, 3)
    scale = jax.random.uniform(zoom_key, (batch,), minval=1 - zoom, maxval=1 + zoom)
    moved = jax.random.uniform(shift_key, (2, batch), minval=-shift, maxval=shift)
    angle = jnp.deg2rad(jax.random.uniform(turn_key, (batch,), minval=-turn, maxval=turn))
    return placed(images, scale, moved[0] * width, moved[1] * height, angle)


def placed(
    images: Float[Array, "b h w 3"],
    scale: Float[Array, " b"],
    right: Float[Array, " b"],
    down: Float[Array, " b"],
    angle: Float[Array, " b"],
) -> Float[Array, "b h w 3"]:
    """Each image enlarged by `scale` and rotated by `angle` about its centre, then shifted.

    `angle` is in radians, counter-clockwise for the viewer; `right` and `down` are in pixels.
    Interpolation is bilinear, and border pixels are replicated.
    """
    height, width = images.shape[1:3]
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    y = jnp.arange(height)[None, :, None] - middle_y - down[:, None, None]
    x = jnp.arange(width)[None, None, :] - middle_x - right[:, None, None]
    cosine = (jnp.cos(angle) / scale)[:, None, None]
    sine = (jnp.sin(angle) / scale)[:, None, None]
    source_x = jnp.clip(cosine * x - sine * y + middle_x, 0, width - 1)
    source_y = jnp.clip(sine * x + cosine * y + middle_y, 0, height - 1)
    return jax.vmap(_bilinear)(images, source_y, source_x)


def _bilinear(
    image: Float[Array, "h w 3"], y: Float[Array, "h w"], x: Float[Array, "h w"]
) -> Float[Array, "h w 3"]:
    """The image at fractional positions inside it, by bilinear interpolation."""
    height, width = image.shape[:2]
    top = jnp.clip(jnp.floor(y), 0, height - 2)
    left = jnp.clip(jnp.floor(x), 0, width - 2)
    below, beside = (y - top)[..., None], (x - left)[..., None]
    first = (top * width + left).astype(jnp.int32)
    pixels = image.reshape(-1, 3)
    upper = pixels[first] * (1 - beside) + pixels[first + 1] * beside
    lower = pixels[first + width] * (1 - beside) + pixels[first + width + 1] * beside
    return (upper * (1 - below) + lower * below).astype(image.dtype)


def random_colour(
    key: PRNGKeyArray,
    images: Float[Array, "b h w 3"],
    brightness: float,
    contrast: float,
    saturation: float,
) -> Float[Array, "b h w 3"]:
    """Changes the brightness, contrast and saturation of each image at random (see `Augment`).

    The result is clipped to 0..255.
    """
    draw = jax.random.uniform(key, (3, len(images), 1, 1, 1), images.dtype, -1, 1)
    mean = images.mean((1, 2, 3), keepdims=True)
    images = mean + (images - mean) * (1 + contrast * draw[1]) + 127.5 * brightness * draw[0]
    if saturation:
        grey = to_grey(images)
        images = grey + (images - grey) * (1 + saturation * draw[2])
    return jnp.clip(images, 0, 255)


def random_grey(
    key: PRNGKeyArray, images: Float[Array, "b h w 3"], probability: float
) -> Float[Array, "b h w 3"]:
    """Replaces, with this probability, each image by its luma in all three channels."""
    return jnp.where(_choose(key, images, probability), to_grey(images), images)


def random_erase(
    key: PRNGKeyArray, images: Float[Array, "b h w 3"], probability: float
) -> Float[Array, "b h w 3"]:
    """Fills, with this probability, a square in each image with the image's mean colour.

    The side of the square is 1/8 to 3/8 of the image's.
    """
    batch, height, width = images.shape[:3]
    choose_key, side_key, x_key, y_key = jax.random.split(key, 4)
    half = jax.random.uniform(side_key, (batch,), minval=1 / 16, maxval=3 / 16)
    y = _inside(y_key, half, height)
    x = _inside(x_key, half, width)
    inside = y[:, :, None, None] & x[:, None, :, None] & _choose(choose_key, images, probability)
    return jnp.where(inside, images.mean((1, 2), keepdims=True), images)


def to_grey(images: Float[Array, "b h w 3"]) -> Float[Array, "b h w 1"]:
    """The ITU-R BT.601 luma of each pixel, in 0..255."""
    return (images @ jnp.asarray(LUMA, images.dtype))[..., None]


def _inside(key: PRNGKeyArray, half: Float[Array, " b"], length: int) -> Bool[Array, "b length"]:
    """Marks, in each row of `length` pixels, those in an interval at a random place.

    `half` is half the length of the interval, as a fraction of the row.
    """
    centre = jax.random.uniform(key, half.shape, minval=half, maxval=1 - half)
    pixel = (jnp.arange(length) + 0.5) / length
    return jnp.abs(pixel[None] - centre[:, None]) <= half[:, None]


def _choose(
    key: PRNGKeyArray, images: Num[Array, "b h w 3"], probability: float
) -> Bool[Array, "b 1 1 1"]:
    return jax.random.bernoulli(key, probability, (len(images), 1, 1, 1))


def _float(images: Num[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    return images.astype(jnp.promote_types(images.dtype, jnp.float32))
