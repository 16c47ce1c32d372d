import numpy as np
import pandas as pd
import pytest

from fer_jax.faces import overview
from fer_jax.faces.selection import REASONS, Limits, reasons
from fer_jax.faces.shots import CutFinder


def faces(count=6, **columns):
    """Rows of a manifest that satisfy every limit in these tests, except for `columns`."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "video": "a.mp4", "box": [[0.0, 0.0, 60.0, 80.0]] * count, "sharpness": 100.0,
            "brightness": 120.0, "yaw": 0.0, "track": 0, "detector_score": 0.99,
            "phash": rng.integers(0, 2**63, count).astype(np.uint64), "status": "kept",
        },
        index=range(count),
    )  # fmt: skip
    for name, values in columns.items():
        frame[name] = values
    return frame


def test_the_default_limits_keep_all_faces():
    odd = faces(3, sharpness=0.0, brightness=[0, 255, 1], yaw=[90, -90, 0], phash=np.uint64(7))
    assert reasons(odd, Limits()) == ["", "", ""]


@pytest.mark.parametrize(
    ("column", "values", "limits", "expected"),
    [
        ("box", [[0, 0, 40, 30], [0, 0, 30, 40], [0, 0, 31, 40]], {"min_size": 31.0},
         ["small", "small", ""]),
        ("sharpness", [9.9, 10.0, 11.0], {"min_sharpness": 10.0}, ["blurred", "", ""]),
        ("brightness", [39, 40, 221], {"min_brightness": 40.0, "max_brightness": 220.0},
         ["dark", "", "bright"]),
        ("yaw", [-31, 30, 31], {"max_yaw": 30.0}, ["turned", "", "turned"]),
    ],
)  # fmt: skip
def test_each_limit_gives_its_reason(column, values, limits, expected):
    assert reasons(faces(3, **{column: values}), Limits(**limits)) == expected
    assert set(expected) <= {"", *REASONS}


def test_near_duplicates_are_compared_with_kept_crops_of_the_track():
    base = np.uint64(0)
    hashes = np.array([base, 0b1, 0b11, 0b111, 0b1, 0b1], np.uint64)
    one = faces(phash=hashes, track=[0, 0, 0, 0, 0, 1])
    # 0b11 differs from the first in two bits, which is enough; 0b111 differs from it in one.
    expected = ["", "duplicate", "", "duplicate", "duplicate", ""]
    assert reasons(one, Limits(min_hash_distance=2)) == expected


def test_per_track_keeps_evenly_spaced_crops():
    one = faces(12, track=[0] * 9 + [1] * 3)
    found = reasons(one, Limits(per_track=3))
    assert [i for i, reason in enumerate(found) if not reason] == [0, 4, 8, 9, 10, 11]
    blurred = faces(9, sharpness=[0, *[100] * 7, 0])
    kept = [
        i for i, r in enumerate(reasons(blurred, Limits(per_track=3, min_sharpness=1.0))) if not r
    ]
    assert kept == [1, 4, 7]


def test_invalid_limits_are_refused():
    for wrong in ({"min_brightness": 99.0, "max_brightness": 9.0}, {"per_track": -1},
                  {"min_hash_distance": 65}, {"min_size": -1.0}):  # fmt: skip
        with pytest.raises(ValueError):
            Limits(**wrong)


def test_a_change_of_colours_is_a_cut():
    finder = CutFinder()
    warm = np.full((90, 120, 3), (200, 120, 60), np.uint8)
    cold = np.full((90, 120, 3), (40, 80, 190), np.uint8)
    warm[20:60, 30:70] = 240
    moved = np.roll(warm, 25, 1)
    shots = [warm, moved, cold, cold, moved, warm]
    assert [finder.update(image) for image in shots] == [False, False, True, False, True, False]


def test_the_histograms_include_every_face():
    some = faces(40, sharpness=np.linspace(1, 99, 40), status=["kept"] * 30 + ["removed"] * 10)
    figure = overview.histograms(some, Limits(min_sharpness=25.0))
    panel = next(axes for axes in figure.axes if axes.get_xlabel() == "sharpness")
    assert sum(bar.get_height() for bar in panel.patches) == 40
    assert any(line.get_xdata()[0] == 25 for line in panel.lines)
    assert "30 kept" in figure.get_suptitle()
    overview.histograms(faces(0), Limits())
