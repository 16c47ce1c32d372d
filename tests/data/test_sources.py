"""Sources in memory and in image files: pixels, types, resizing and unreadable files."""

import pickle

import cv2
import numpy as np
import pytest

from fer_jax.data.sources import ArraySource, read_images
from fer_jax.errors import UserError


def read_back(array, folder):
    """Writes `array` as a picture, and reads it back, resized to 8 x 8 pixels."""
    cv2.imwrite(str(folder / "a.png"), array)
    return read_images([folder / "a.png"], 8)[0]


def test_array_source_returns_batches_in_the_requested_order():
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    source = ArraySource(images, [5, 4, 3, 2, 1, 0], list("abcdef"))
    assert len(source) == 6 and source.image_size == 8
    example = source[2]
    assert (example["image"] == images[2]).all()
    assert example["label"] == 3 and example["label"].dtype == np.int32 and example["id"] == "c"
    batch = source.batch([4, 0])
    assert (batch["image"] == images[[4, 0]]).all() and batch["label"].tolist() == [1, 5]


def test_array_source_defaults_labels_and_checks_their_number():
    images = np.zeros((3, 8, 8, 3), np.uint8)
    assert ArraySource(images).labels.tolist() == [-1, -1, -1]
    with pytest.raises(ValueError, match="3 images, 2 labels"):
        ArraySource(images, [0, 1])


def test_images_are_rgb(tmp_path):
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 2] = 255  # OpenCV writes blue, green, red
    assert read_back(red, tmp_path)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((8, 8), 100, np.uint8), 100),
        (np.full((8, 8, 4), 100, np.uint8), (100 * 100 + 155 * 128) / 255),  # on mid-grey
        (np.full((8, 8, 3), 100 * 257, np.uint16), 100),
    ],
    ids=["grey", "alpha", "16 bits"],
)
def test_every_format_becomes_rgb_with_8_bits(array, expected, tmp_path):
    image = read_back(array, tmp_path)
    assert image.shape == (8, 8, 3) and image.dtype == np.uint8
    assert abs(int(image[0, 0, 0]) - expected) <= 1


def test_images_are_read_in_order(tmp_path):
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((9, 9, 3), number * 10, np.uint8))
    images = read_images([tmp_path / f"{number}.png" for number in (3, 0, 4)], 6)
    assert images.shape == (3, 6, 6, 3) and images[:, 0, 0, 0].tolist() == [30, 0, 40]
    assert read_images([], 6).shape == (0, 6, 6, 3)


@pytest.mark.parametrize("content", [b"", b"no image", None], ids=["empty", "text", "missing"])
def test_the_error_names_the_unreadable_file(tmp_path, content):
    if content is not None:
        (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.png"):
        read_images([tmp_path / "bad.png"], 8)


def test_array_source_can_be_pickled():
    source = pickle.loads(pickle.dumps(ArraySource(np.ones((2, 4, 4, 3), np.uint8), [0, 1])))
    assert source.batch([1])["label"].tolist() == [1]
