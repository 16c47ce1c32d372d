"""The sizes, places and colours in annotated pictures and contact sheets."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fer_jax.errors import UserError
from fer_jax.faces import drawing
from fer_jax.languages.language import language
from tests.languages import joined

LABELS = ("angry", "happy", "neutral", "sad")
HAPPY = np.array([[0.05, 0.85, 0.06, 0.04]], np.float32)


def plain(height: int, width: int, grey: int = 255) -> np.ndarray:
    return np.full((height, width, 3), grey, np.uint8)


def box(*corners: float) -> np.ndarray:
    return np.array([corners], np.float32)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (480, 640)),
        ((240, 320), (480, 640)),
        ((48, 48), (384, 384)),
        ((9, 20), (72, 160)),
    ],
)
def test_small_pictures_are_enlarged_by_whole_factors(size, expected):
    image = plain(*size)
    shown = drawing.annotate(image, np.zeros((0, 4), np.float32), np.zeros((0, 4)), LABELS)
    assert shown.shape == (*expected, 3)
    assert (shown == 255).all()  # without a face nothing is drawn


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_the_box_has_the_colour_of_the_most_probable_class(grey):
    image = plain(480, 640, grey)
    shown = drawing.annotate(image, box(200, 100, 300, 260), HAPPY, LABELS)
    column = shown[200, 190:210].tolist()
    colour = list(drawing.PALETTE[1])
    frame = [i for i, pixel in enumerate(column) if pixel == colour]
    assert len(frame) >= 2 and frame[0] <= 10 <= frame[-1]
    assert max(column[frame[0] - 1]) < 40 and max(column[frame[-1] + 1]) < 40
    assert (image == grey).all()  # the input is not modified


def test_a_withheld_answer_is_not_revealed_by_its_box_or_heading():
    sad = HAPPY[:, [3, 0, 2, 1]]
    shown = [
        drawing.annotate(
            plain(480, 640), box(200, 100, 300, 260), row, LABELS, answered=np.array([False])
        )
        for row in (HAPPY, sad)
    ]
    box_of = (slice(95, 265), slice(195, 305))
    np.testing.assert_array_equal(shown[0][box_of], shown[1][box_of])
    column = shown[0][200, 190:210].tolist()
    assert not any(list(colour) in column for colour in drawing.PALETTE)
    answered = drawing.annotate(plain(480, 640), box(200, 100, 300, 260), HAPPY, LABELS)
    assert (answered != shown[0]).any(axis=-1)[:, 310:].sum() > 100  # another heading


def test_the_lengths_of_bars_are_proportional_to_the_probabilities():
    probabilities = np.array([[0.1, 0.5, 0.4, 0.0]], np.float32)
    shown = drawing.annotate(plain(480, 640), box(100, 100, 200, 250), probabilities, LABELS)
    plate = shown[90:300, 206:]
    lengths = []
    for colour in drawing.PALETTE[:4]:
        hits = (plate == colour).all(axis=-1)
        lengths.append(hits.sum(axis=1).max())
    assert lengths[3] == 0
    assert lengths[1] / lengths[2] == pytest.approx(0.5 / 0.4, rel=0.06)
    assert lengths[1] / lengths[0] == pytest.approx(5, rel=0.2)


def test_plates_do_not_cover_faces_or_other_plates():
    faces = np.array(
        [
            [40 + 200 * i, 60 + 210 * j, 120 + 200 * i, 160 + 210 * j]
            for j in range(2)
            for i in range(3)
        ],
        np.float32,
    )
    alone = np.repeat(HAPPY, len(faces), axis=0)
    shown = drawing.annotate(plain(480, 640), faces, alone, LABELS)
    for x0, y0, x1, y1 in faces.astype(int):
        inside = shown[y0 + 4 : y1 - 4, x0 + 4 : x1 - 4]
        assert (inside == 255).all(), "a plate covers a face"
    dark = (shown.max(axis=-1) < 60).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(cv2.erode(dark, np.ones((5, 5))))
    wide = [s for s in stats[1:count] if s[cv2.CC_STAT_WIDTH] > 60]
    assert len(wide) >= len(faces)


@pytest.mark.parametrize(
    "corners", [(0, 0, 639, 479), (-50, -40, 30, 40), (620, 460, 700, 520), (600, 5, 638, 60)]
)
def test_boxes_at_and_beyond_the_border_are_drawn(corners):
    image = plain(480, 640, 90)
    shown = drawing.annotate(image, box(*corners), HAPPY, LABELS)
    assert shown.shape == image.shape
    # The text of the plate is white and completely inside the image.
    assert (shown == 255).all(axis=-1).sum() > 100


def test_persian_labels_have_glyphs():
    persian = ("خشمگین", "خوشحال", "خنثی", "غمگین")
    latin = drawing.annotate(plain(400, 400, 90), box(20, 20, 90, 90), HAPPY, LABELS)
    shown = drawing.annotate(plain(400, 400, 90), box(20, 20, 90, 90), HAPPY, persian)
    missing = drawing.annotate(plain(400, 400, 90), box(20, 20, 90, 90), HAPPY, ("\ufffe" * 6,) * 4)
    assert (shown != latin).any() and shown.shape == latin.shape
    assert (shown != missing).any()


def likeness(shown: np.ndarray, word: np.ndarray) -> float:
    """The highest correlation of a drawn word with a place in a picture; 1 is a match."""
    grey = cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY)
    return float(cv2.matchTemplate(grey, word, cv2.TM_CCOEFF_NORMED).max())


def test_persian_words_are_drawn_joined_and_from_right_to_left():
    shown = drawing.annotate(
        plain(480, 640, 90), box(200, 100, 300, 260), HAPPY, LABELS, words=language("fa")
    )
    for word in joined.SHAPES:
        assert likeness(shown, joined.drawn(word, 13)) > 0.95
        assert likeness(shown, joined.drawn(word, 13, joined=False)) < 0.8
    names = drawing.annotate(
        plain(480, 640, 90), box(200, 100, 300, 260), HAPPY, tuple(joined.SHAPES)
    )
    assert likeness(names, joined.drawn("غمگین", 13)) > 0.98  # also if they are labels of the user


def test_persian_plates_are_mirrored():
    """The bars grow from right to left."""
    shown = drawing.annotate(
        plain(480, 640, 90), box(100, 100, 200, 260), HAPPY, LABELS, words=language("fa")
    )
    rows = np.where((shown == drawing.PALETTE[1]).all(axis=2).sum(axis=1) > 20, 1, 0)
    row = int(np.flatnonzero(rows[130:250])[0]) + 130
    bar = np.flatnonzero((shown[row, 210:] == drawing.PALETTE[1]).all(axis=1))
    track = np.flatnonzero((shown[row, 210:] == drawing._TRACK).all(axis=1))
    assert track.max() < bar.min()  # the empty part is left of the bar


def test_a_missing_text_layout_library_is_a_user_error(monkeypatch):
    monkeypatch.setattr(drawing.features, "check", lambda name: name != "fribidi")
    drawing.check_text_layout(language("en"))
    with pytest.raises(UserError, match=r"--config\.language=fa.*FriBiDi is missing; install"):
        drawing.check_text_layout(language("fa"))


def test_there_may_be_more_classes_than_colours():
    labels = [f"class {i}" for i in range(11)]
    probabilities = np.full((1, 11), 1 / 11, np.float32)
    shown = drawing.annotate(plain(480, 640), box(10, 10, 100, 100), probabilities, labels)
    assert shown.shape == (480, 640, 3)


@pytest.mark.parametrize(("count", "rows"), [(0, 0), (1, 1), (8, 1), (9, 2)])
def test_the_contact_sheet_grows_by_rows(count, rows):
    crops = [plain(64, 64, 100)] * count
    sheet = drawing.contact_sheet(crops, ["one\ntwo"] * count, title="a title", cell=80)
    empty = drawing.contact_sheet([], [], title="a title", cell=80)
    assert sheet.shape[1] == empty.shape[1] == 10 + 8 * 90
    assert (sheet.shape[0] - empty.shape[0]) == rows * (80 + 34 + 10)
    assert (sheet == 100).all(axis=-1).sum() == pytest.approx(count * 80 * 80, rel=0.02)


def test_the_contact_sheet_keeps_order_and_shape_and_clips_captions():
    crops = [plain(30, 60, 10), plain(200, 100, 250)]
    sheet = drawing.contact_sheet(
        crops, ["a very long caption " * 9, "b"], title="t", columns=2, cell=100
    )
    shown = sheet[44:144]
    # The wide picture has the full width and half the height.
    assert (shown[:, 10:110] == 10).all(axis=-1).sum() == 100 * 50
    right = (shown[:, 120:220] == 250).all(axis=-1)
    assert right[:, 25:75].all()
    between = sheet[146:160, 111:119]
    assert (between == sheet[0, 0]).all(), "a caption overlaps its neighbour"


def test_the_contact_sheet_requires_a_caption_per_crop():
    with pytest.raises(ValueError, match="1 crops, but 2 captions"):
        drawing.contact_sheet([plain(8, 8)], ["a", "b"], title="")


@pytest.mark.parametrize("name", ["a.png", "deep/er/ß خ.jpg"])
def test_a_written_image_is_read_back(tmp_path, name):
    image = np.zeros((20, 30, 3), np.uint8)
    image[..., 0] = 200
    drawing.write_image(tmp_path / name, image)
    data = np.frombuffer((tmp_path / name).read_bytes(), np.uint8)
    back = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    assert back.shape == image.shape
    assert np.abs(back.astype(int) - image).max() <= 3
    assert [p.name for p in (tmp_path / name).parent.iterdir()] == [(tmp_path / name).name]


def test_an_image_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        drawing.write_image(tmp_path / "file" / "a.png", plain(8, 8))


def test_neighbouring_plates_do_not_overlap():
    def letters(*boxes):
        probabilities = np.repeat(HAPPY, len(boxes), axis=0)
        shown = drawing.annotate(
            plain(480, 640, 90), np.array(boxes, np.float32), probabilities, LABELS
        )
        return int((shown == 255).all(axis=-1).sum())

    left, right = (300, 100, 380, 200), (560, 100, 630, 200)  # both plates would fit between them
    assert letters(left, right) == letters(left) + letters(right)
