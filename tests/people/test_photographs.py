import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_jax.people import EMOTIONS, photograph, texture
from fer_jax.people.background import background
from fer_jax.stages.render import write_photograph

ROOT = Path(__file__).parents[2]


def digest(image):
    return hashlib.sha256(image.tobytes()).hexdigest()


def test_pictures_are_the_same_in_another_process():
    here = [digest(photograph(5, "sad", 2, (120, 160))), digest(texture(3, (40, 50)))]
    code = (
        "import hashlib; from fer_jax.people import photograph, texture\n"
        "for image in photograph(5, 'sad', 2, (120, 160)), texture(3, (40, 50)):\n"
        "    print(hashlib.sha256(image.tobytes()).hexdigest())"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert there.stdout.split() == here


def test_pictures_do_not_depend_on_the_order_of_drawing():
    first = photograph(1, "happy", 0, (120, 160))
    photograph(2, "sad", 1, (120, 160))
    np.testing.assert_array_equal(photograph(1, "happy", 0, (120, 160)), first)


def test_backgrounds_of_photographs_vary():
    corners = [photograph(4, "angry", i, (120, 160))[:20, :20].mean((0, 1)) for i in range(6)]
    spread = np.linalg.norm(np.std(corners, axis=0))
    assert spread > 15


def test_backgrounds_do_not_depend_on_the_emotion():
    """The mean brightness of a corner is the same for all emotions up to noise."""
    means = {
        emotion: np.array([photograph(p, emotion, 7, (64, 96))[:8, :12].mean() for p in range(24)])
        for emotion in EMOTIONS
    }
    everything = np.concatenate(list(means.values()))
    for values in means.values():
        assert abs(values.mean() - everything.mean()) < 4 * everything.std() / np.sqrt(24)


def test_photographs_have_the_requested_size_and_type():
    image = photograph(0, "neutral", 0, (96, 128))
    assert image.shape == (96, 128, 3) and image.dtype == np.uint8
    assert 20 < image.mean() < 235 and image.std() > 15
    with pytest.raises(ValueError):
        photograph(0, "bored", 0)


def test_written_photographs_are_read_back_as_rgb(tmp_path):
    path = tmp_path / "p.jpg"
    write_photograph(path, 1, "happy", 0, (120, 160))
    read = cv2.imread(str(path))[..., ::-1].astype(float)
    assert np.abs(read - photograph(1, "happy", 0, (120, 160))).mean() < 6


@pytest.mark.parametrize("seed", range(6))
def test_textures_and_backgrounds_are_valid_pictures(seed):
    image = texture(seed, (48, 64))
    assert image.shape == (48, 64, 3) and image.dtype == np.uint8 and image.std() > 3
    scenery = background(np.random.default_rng(seed), (48, 64))
    assert scenery.dtype == np.float32 and scenery.min() >= 0 and scenery.max() <= 1
