"""Aligned face crops: upright, with the eyes, nose and mouth at fixed positions."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
"""The five landmarks of a face in their order; left and right are those of the viewer."""
# Positions of the landmarks in a crop without margin, (x, y) in units of its side. This is the
# 112-pixel template of ArcFace (Deng et al. 2019, arXiv:1801.07698), on which most face models are
# trained. Left is the viewer's left.
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
    """A square crop, uint8 [size, size, 3], in which the landmarks best match the template.

    Pixels outside the image are filled by reflection, since black corners would reveal the border.

    Args:
        image: uint8 [H, W, 3] RGB.
        landmarks: (x, y) in pixels, as in `Faces.landmarks`.
        size: side of the crop in pixels.
        margin: width of the area around the template on each side, in units of the template's side.

    Raises:
        ValueError: all landmarks are at the same point.
    """
    transform = similarity(landmarks, template_points(size, margin))
    scale = float(np.hypot(transform[0, 0], transform[1, 0]))
    if scale < 0.5:
        # Bilinear sampling would skip pixels, so the image is first shrunk by averaging.
        height, width = (max(1, round(length * 2 * scale)) for length in image.shape[:2])
        shrink = np.array([width / image.shape[1], height / image.shape[0]])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        transform = similarity((landmarks + 0.5) * shrink - 0.5, template_points(size, margin))
    return cv2.warpAffine(
        image, transform, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def template_points(size: int, margin: float) -> Float[np.ndarray, "5 2"]:
    """The template's points (x, y) in pixels of a crop by `align` with `size` and `margin`.

    Pixel centres are at integers.
    """
    return (TEMPLATE + margin) / (1 + 2 * margin) * size - 0.5


def similarity(
    source: Float[np.ndarray, "n 2"], target: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "2 3"]:
    """The rotation, uniform scale and translation that map `source` closest to `target`.

    This is the least-squares solution without reflection, in closed form: Umeyama 1991,
    "Least-squares estimation of transformation parameters between two point patterns", equations 40
    to 42. The matrix maps (x, y, 1) to (x, y).

    Raises:
        ValueError: all source points are the same.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    mean_source, mean_target = source.mean(0), target.mean(0)
    centred = source - mean_source
    variance = (centred**2).sum(1).mean()
    if variance == 0:
        raise ValueError("cannot align landmarks that are all at the same point")
    covariance = (target - mean_target).T @ centred / len(source)
    left, singular, right = np.linalg.svd(covariance)
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = left @ np.diag(signs) @ right
    linear = (singular * signs).sum() / variance * rotation
    return np.concatenate([linear, (mean_target - linear @ mean_source)[:, None]], 1)


def crop_outline(landmarks: Float[np.ndarray, "5 2"], margin: float) -> Float[np.ndarray, "4 2"]:
    """The corners (x, y), in image pixels, of the square that `align` crops with `margin`."""
    to_crop = similarity(landmarks, template_points(1, margin) + 0.5)
    back = cv2.invertAffineTransform(to_crop)
    corners = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], np.float64)
    return corners @ back.T
