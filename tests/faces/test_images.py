import io

import cv2
import numpy as np
import pytest
from PIL import Image

from fer_jax.errors import UserError
from fer_jax.faces.images import ImageError, read_image

RAMP = np.dstack(np.meshgrid(np.arange(0, 240, 20), np.arange(0, 160, 20))).astype(np.uint8)
RAMP = np.dstack([RAMP, np.full(RAMP.shape[:2], 30, np.uint8)])  # [8, 12, 3]


def save(path, image, **options):
    Image.fromarray(image).save(path, **options)
    return read_image(path)


def test_colours_are_red_green_blue(tmp_path):
    np.testing.assert_array_equal(save(tmp_path / "a.png", RAMP), RAMP)
    np.testing.assert_array_equal(save(tmp_path / "a.tiff", RAMP), RAMP)
    assert np.abs(save(tmp_path / "a.jpg", RAMP, quality=95).astype(int) - RAMP).mean() < 12


def test_names_may_have_any_letters(tmp_path):
    np.testing.assert_array_equal(save(tmp_path / "چهره 😀 1.png", RAMP), RAMP)


def test_grey_palette_and_one_bit(tmp_path):
    grey = RAMP[..., 0]
    np.testing.assert_array_equal(save(tmp_path / "g.png", grey), np.repeat(grey[..., None], 3, 2))
    Image.fromarray(RAMP).quantize(256).save(tmp_path / "p.png")
    assert np.abs(read_image(tmp_path / "p.png").astype(int) - RAMP).max() <= 8
    black_white = save(tmp_path / "b.png", grey > 100)
    assert set(np.unique(black_white)) == {0, 255} and black_white.shape == (8, 12, 3)


def test_sixteen_bits_become_eight(tmp_path):
    deep = RAMP.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "deep.png"), deep[..., ::-1])
    image = read_image(tmp_path / "deep.png")
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - RAMP).max() <= 1


def test_transparency_is_laid_on_grey(tmp_path):
    alpha = np.zeros(RAMP.shape[:2], np.uint8)
    alpha[:4] = 255
    image = save(tmp_path / "a.png", np.dstack([RAMP, alpha]))
    np.testing.assert_array_equal(image[:4], RAMP[:4])
    assert (image[4:] == 128).all()


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 1), (8, 3)])
def test_exif_orientation_is_applied(tmp_path, orientation, turns):
    upright = np.zeros((80, 120, 3), np.uint8)
    upright[:20] = 250
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(np.rot90(upright, turns))
    image = save(tmp_path / "a.jpg", stored, exif=exif, quality=95)
    assert np.abs(image.astype(int) - upright).mean() < 5


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\xff\xd8\xff\xe0 broken", b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_picture_is_said_so(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.jpg"):
        read_image(path)


def test_unreadable_files_are_the_users_to_mend(tmp_path):
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for path in (tmp_path / "absent.png", tmp_path, tmp_path / "loop.png"):
        with pytest.raises(UserError, match="cannot read"):
            read_image(path)


def test_a_cut_off_picture_gives_what_is_there_or_an_error(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8)).save(
        buffer, "png"
    )
    (tmp_path / "cut.png").write_bytes(buffer.getvalue()[:5000])
    try:
        assert read_image(tmp_path / "cut.png").shape == (99, 99, 3)
    except ImageError as error:
        assert "cut.png" in str(error)
