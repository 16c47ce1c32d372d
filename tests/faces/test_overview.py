"""Contact sheets of extracted faces."""

import cv2
import numpy as np
import pandas as pd
import pytest

from fer_jax.faces import overview
from fer_jax.faces.images import read_image

SIZE = 40


@pytest.mark.parametrize(
    ("video", "time_s", "expected"),
    [
        ("a/talk.mp4", 0.0, "talk.mp4\n0:00"),
        ("talk.mp4", 59.96, "talk.mp4\n1:00"),
        ("talk.mp4", 3725.25, "talk.mp4\n62:05.2"),
        ("interview with person 17.mp4", 0.0, "interv…rson 17.mp4\n0:00"),
    ],
)
def test_a_place_is_the_file_name_and_the_time_as_players_show_it(video, time_s, expected):
    assert overview.place_of(video, time_s) == expected


def faces(folder, count):
    rows = []
    for level in range(count):
        cv2.imwrite(str(folder / f"{level}.png"), np.full((SIZE, SIZE, 3), 100 + level, np.uint8))
        status = "removed" if level % 2 else "kept"
        rows.append({"video": "a.mp4", "time_s": 1.0 * level, "crop": f"{level}.png",
                     "status": status})  # fmt: skip
    return pd.DataFrame(rows)


def shown(sheet, count):
    """The indices, below `count`, of the faces that a sheet shows."""
    whole = [(sheet == 100 + level).all(axis=-1).sum() > 0.9 * 128**2 for level in range(count)]
    return np.flatnonzero(whole).tolist()


def test_the_sheet_shows_only_kept_faces_up_to_the_limit(tmp_path, monkeypatch):
    reported = []

    def sheet(crops, captions, title):
        reported.append((title, captions))
        return real(crops, captions, title=title)

    real = overview.drawing.contact_sheet
    monkeypatch.setattr(overview.drawing, "contact_sheet", sheet)
    rows = faces(tmp_path, 12)
    assert shown(overview.kept_sheet(rows, tmp_path, 96), 12) == [0, 2, 4, 6, 8, 10]
    assert shown(overview.kept_sheet(rows, tmp_path, 3), 12) == [0, 4, 10]
    overview.kept_sheet(rows.head(0), tmp_path, 3)
    titles, captions = zip(*reported, strict=True)
    assert titles == (
        "6 of 12 faces kept", "6 of 12 faces kept, 3 of them shown", "0 of 0 faces kept"
    )  # fmt: skip
    assert captions[1] == ["a.mp4\n0:00", "a.mp4\n0:04", "a.mp4\n0:10"]
    assert read_image(tmp_path / "0.png").shape == (SIZE, SIZE, 3)
