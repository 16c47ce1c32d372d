"""Cutting a face out upright: the eyes, nose and mouth always at the same places."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

# Where left eye, right eye, nose, left and right corner of the mouth lie in a crop without
# margin, as (x, y) parts of its side: the 112-pixel template of ArcFace (Deng et al. 2019,
# arXiv:1801.07698), the one most face models are trained on. Left is the viewer's.
TEMPLATE = (
    np.array(
        [
            [38.2946, 51.6963],
            [73.5318, 51.5014],
            [56.0252, 71.7366],
            [41.5493, 92.3655],
            [70.7299, 92.2041],
        ]
    )
    + 0.5
) / 112


def align(
    image: UInt8[np.ndarray, "h w 3"],
    landmarks: Float[np.ndarray, "5 2"],
    size: int,
    margin: float,
) -> UInt8[np.ndarray, "size size 3"]:
    """A square crop, uint8 [size, size, 3], in which the landmarks lie on the template.

    Args:
        image: uint8 [H, W, 3] RGB.
        landmarks: (x, y) in pixels, as `Faces.landmarks`.
        size: side of the crop in pixels.
        margin: what to show around the template on each side, as a part of the template's side.

    What lies outside the image is its mirror image, so that no black corners betray a border.

    Raises:
        ValueError: the landmarks are all at one point.
    """
    transform = similarity(landmarks, template_points(size, margin))
    scale = float(np.hypot(transform[0, 0], transform[1, 0]))
    if scale < 0.5:
        # Bilinear samples would skip pixels: average them down first.
        height, width = (max(1, round(length * 2 * scale)) for length in image.shape[:2])
        shrink = np.array([width / image.shape[1], height / image.shape[0]])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        transform = similarity((landmarks + 0.5) * shrink - 0.5, template_points(size, margin))
    return cv2.warpAffine(
        image, transform, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def template_points(size: int, margin: float) -> Float[np.ndarray, "5 2"]:
    """The template's points in a crop of `size` pixels, (x, y), pixel centres at integers."""
    return (TEMPLATE + margin) / (1 + 2 * margin) * size - 0.5


def similarity(
    source: Float[np.ndarray, "n 2"], target: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "2 3"]:
    """The rotation, uniform scale and shift that bring `source` nearest to `target`.

    Least squares, in closed form: Umeyama 1991, "Least-squares estimation of transformation
    parameters between two point patterns", equations 40 to 42. Never a reflection.

    Raises:
        ValueError: the source points are all one.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    mean_source, mean_target = source.mean(0), target.mean(0)
    centred = source - mean_source
    variance = (centred**2).sum(1).mean()
    if variance == 0:
        raise ValueError("cannot align landmarks that are all at one point")
    covariance = (target - mean_target).T @ centred / len(source)
    left, singular, right = np.linalg.svd(covariance)
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = left @ np.diag(signs) @ right
    linear = (singular * signs).sum() / variance * rotation
    return np.concatenate([linear, (mean_target - linear @ mean_source)[:, None]], 1)


def crop_outline(landmarks: Float[np.ndarray, "5 2"], margin: float) -> Float[np.ndarray, "4 2"]:
    """The corners, in image pixels, of the square that `align` would cut."""
    to_crop = similarity(landmarks, template_points(1, margin) + 0.5)
    back = cv2.invertAffineTransform(to_crop)
    corners = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], np.float64)
    return corners @ back.T
