import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from fer_jax.errors import UserError
from fer_jax.faces import images
from fer_jax.faces.images import ImageError, read_image, resize

RAMP = np.dstack(np.meshgrid(np.arange(0, 240, 20), np.arange(0, 160, 20))).astype(np.uint8)
RAMP = np.dstack([RAMP, np.full(RAMP.shape[:2], 30, np.uint8)])  # [8, 12, 3]


def save(path, image, **options):
    Image.fromarray(image).save(path, **options)
    return read_image(path)


def test_images_are_rgb(tmp_path):
    np.testing.assert_array_equal(save(tmp_path / "a.png", RAMP), RAMP)
    np.testing.assert_array_equal(save(tmp_path / "a.tiff", RAMP), RAMP)
    assert np.abs(save(tmp_path / "a.jpg", RAMP, quality=95).astype(int) - RAMP).mean() < 12


def test_file_names_may_have_any_letters(tmp_path):
    np.testing.assert_array_equal(save(tmp_path / "چهره 😀 1.png", RAMP), RAMP)


def test_grey_palette_and_one_bit_pictures_become_rgb(tmp_path):
    grey = RAMP[..., 0]
    np.testing.assert_array_equal(save(tmp_path / "g.png", grey), np.repeat(grey[..., None], 3, 2))
    Image.fromarray(RAMP).quantize(256).save(tmp_path / "p.png")
    assert np.abs(read_image(tmp_path / "p.png").astype(int) - RAMP).max() <= 8
    black_white = save(tmp_path / "b.png", grey > 100)
    assert set(np.unique(black_white)) == {0, 255} and black_white.shape == (8, 12, 3)


def test_16_bits_become_8(tmp_path):
    deep = RAMP.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "deep.png"), deep[..., ::-1])
    image = read_image(tmp_path / "deep.png")
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - RAMP).max() <= 1


def test_transparency_is_blended_with_grey(tmp_path):
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
def test_a_file_that_is_not_a_picture_is_an_image_error(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.jpg"):
        read_image(path)


def test_unreadable_files_are_user_errors(tmp_path):
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for path in (tmp_path / "absent.png", tmp_path, tmp_path / "loop.png"):
        with pytest.raises(UserError, match="cannot read"):
            read_image(path)


def test_a_truncated_picture_is_decoded_partly_or_an_error(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8)).save(
        buffer, "png"
    )
    (tmp_path / "cut.png").write_bytes(buffer.getvalue()[:5000])
    try:
        assert read_image(tmp_path / "cut.png").shape == (99, 99, 3)
    except ImageError as error:
        assert "cut.png" in str(error)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(
        ">I", zlib.crc32(kind + content)
    )  # fmt: skip


def png_header(width, height):
    """A PNG of black pixels that is truncated after its first row."""
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(
        b"IDAT", zlib.compress(bytes(1 + 3 * width))
    )  # fmt: skip


@pytest.mark.parametrize(
    "read", [read_image, images.read_encoded, images.fault, lambda p: images.read_image(str(p))]
)
def test_a_picture_with_too_many_pixels_is_refused_before_decoding(read, tmp_path, monkeypatch):
    def decode(*_, **__):
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", decode)
    monkeypatch.setattr(images.PngImageFile, "load", decode)
    (tmp_path / "a.png").write_bytes(png_header(20000, 20000))
    try:
        message = read(tmp_path / "a.png")
    except ImageError as error:
        message = str(error)
    assert "20000 x 20000 pixels, more than the limit of 67 million" in message


def test_shrinking_does_not_alias():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 200
    assert np.abs(resize(stripes, 16).astype(int) - 50).max() <= 1


def test_enlarging_interpolates():
    two = np.zeros((2, 2, 3), np.uint8)
    two[:, 1] = 200
    row = resize(two, 8)[0, :, 0].astype(int)
    assert row[0] == 0 and row[-1] == 200 and (np.diff(row) >= 0).all() and len(set(row)) > 4


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM", "JPEG2000", "GIF"])
def test_the_size_limit_applies_to_every_format(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MOST_PIXELS", 95)
    Image.fromarray(RAMP).save(tmp_path / "a", kind)  # 8 x 12
    for read in (read_image, images.read_encoded):
        with pytest.raises(ImageError, match="a: it has 12 x 8 pixels"):
            read(tmp_path / "a")
    assert "12 x 8 pixels" in images.fault(tmp_path / "a")
    monkeypatch.setattr(images, "MOST_PIXELS", 96)
    assert read_image(tmp_path / "a").shape == (8, 12, 3)
    assert images.fault(tmp_path / "a") is None


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(1 << 40)  # sparse, takes no space on disk
    with pytest.raises(ImageError, match=r"a\.png .*bytes, more than"):
        read_image(tmp_path / "a.png")
    assert "bytes, more than" in images.fault(tmp_path / "a.png")


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 1), (8, 3)])
@pytest.mark.parametrize("kind", ["png", "webp", "tiff"])
def test_exif_orientation_is_applied_to_colour_and_transparency(kind, orientation, turns, tmp_path):
    upright = np.zeros((8, 12, 4), np.uint8)
    upright[:4, :6] = (250, 90, 10, 255)  # opaque in its upper left quarter
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright, turns)))
    options = {"lossless": True, "exact": True} if kind == "webp" else {}
    stored.save(tmp_path / f"a.{kind}", exif=exif, **options)
    expected = np.full((8, 12, 3), 128, np.uint8)
    expected[:4, :6] = (250, 90, 10)
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{kind}"), expected)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("IMG_1.HEIC", "HEIC"), ("a.heif", "HEIC"), ("a.avif", "AVIF"), ("a.NEF", "raw")],
)
def test_there_is_advice_for_unsupported_formats_of_cameras(name, kind):
    assert images.advice(name).startswith(
        f"{kind} pictures are not supported; convert them to JPEG"
    )


def test_there_is_no_advice_for_other_files():
    assert images.advice("notes.txt") == images.advice("a.jpg") == ""


def test_there_is_advice_for_a_heic_picture_with_another_suffix(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    with pytest.raises(ImageError, match=r"a\.jpg: HEIC pictures are not supported; convert"):
        read_image(tmp_path / "a.jpg")
    assert images.fault(tmp_path / "a.jpg").startswith("HEIC pictures are not supported")


def test_a_truncated_picture_is_a_fault(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8)
    for kind in ("JPEG", "PNG", "TIFF"):
        Image.fromarray(noise).save(tmp_path / "a", kind)
        whole = (tmp_path / "a").read_bytes()
        assert images.fault(tmp_path / "a") is None
        (tmp_path / "a").write_bytes(whole[: len(whole) // 2])
        assert images.fault(tmp_path / "a")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM", "JPEG2000", "GIF"])
def test_damaged_bytes_are_decoded_or_an_image_error(kind, monkeypatch):
    """No decoder raises an error other than ImageError."""
    monkeypatch.setattr(images, "MOST_PIXELS", 1 << 16)  # for speed
    buffer = io.BytesIO()
    Image.fromarray(RAMP).save(buffer, kind)
    rng = np.random.default_rng(0)
    for _ in range(40):
        content = bytearray(buffer.getvalue())
        for place in rng.integers(0, len(content), 3):
            content[place] = rng.integers(0, 256)
        try:
            image = images.decode_image(bytes(content))
        except ImageError as error:
            assert "\n" not in str(error)
        else:
            assert image.dtype == np.uint8 and image.shape[2] == 3
