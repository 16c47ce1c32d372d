"""The timeline: a panel per person, with gaps while the person is not seen."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from fer_jax.figures import save_figure
from fer_jax.languages.language import language
from fer_jax.report import timeline
from fer_jax.report.timeline import Timeline, clock
from tests.languages.joined import SHAPES

LABELS = ("angry", "happy")
HALF = np.array([[0.5, 0.5]])


def _person(number: int) -> np.ndarray:
    return np.array([number])


def test_each_person_has_a_panel_with_gaps_while_absent(tmp_path) -> None:
    line = Timeline(LABELS)
    for index in range(100):
        time_s = 0.2 * index
        people = [1, 2] if not 30 <= index < 60 else [2]
        line.add(time_s, np.array(people), np.repeat([[0.25, 0.75]], len(people), axis=0))
        line.add(time_s, _person(0), HALF)  # nobody
    figure = line.draw("holiday.mp4")
    assert figure is not None
    assert [axes.get_ylabel() for axes in figure.axes] == ["person 1", "person 2"]
    stretches = [
        sorted(
            {
                tuple(np.round([one.get_paths()[0].vertices[:, 0].min(),
                                one.get_paths()[0].vertices[:, 0].max()], 3).tolist())
                for one in axes.collections
                if isinstance(one, PolyCollection)
            }
        )
        for axes in figure.axes
    ]  # fmt: skip
    assert stretches[0] == [(-0.1, 5.9), (11.9, 19.9)]
    assert stretches[1] == [(-0.1, 19.9)]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["happy", "angry"]
    save_figure(figure, tmp_path / "timeline.png", dpi=50)
    assert (tmp_path / "timeline.png").stat().st_size > 1000


def test_there_is_no_picture_without_people() -> None:
    line = Timeline(LABELS)
    assert line.draw("empty.mp4") is None
    line.add(0.0, _person(0), HALF)
    assert line.draw("empty.mp4") is None


def test_there_is_a_picture_for_a_single_face() -> None:
    line = Timeline(LABELS)
    line.add(3.0, _person(1), HALF)
    figure = line.draw("short.mp4")
    assert figure is not None and len(figure.axes) == 1


def test_only_the_people_seen_longest_have_panels() -> None:
    line = Timeline(LABELS)
    for person in range(1, timeline.MOST_PEOPLE + 3):
        for index in range(20 if person > 2 else 5):
            line.add(0.2 * index, _person(person), HALF)
    figure = line.draw("crowd.mp4")
    assert figure is not None
    assert figure.axes[0].get_ylabel() == "person 3"
    assert len(figure.axes) == timeline.MOST_PEOPLE
    assert "2 more people are not shown" in figure.get_suptitle()


def test_long_videos_are_averaged() -> None:
    line = Timeline(LABELS)
    for index in range(3 * timeline._MOST_POINTS):
        line.add(0.04 * index, _person(1), HALF)
    ((times, shares),) = line._stretches(1, 0.04)
    assert len(times) <= timeline._MOST_POINTS + 2
    np.testing.assert_allclose(shares.sum(1), 1)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0:00"), (65.0, "1:05"), (59.96, "1:00"), (0.5, "0:00.5")]
)
def test_times_are_minutes_and_seconds(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_persian_timeline_has_persian_names_and_digits() -> None:
    line = Timeline(LABELS, language("fa"))
    for person in range(1, timeline.MOST_PEOPLE + 3):
        line.add(0.0, _person(person), HALF)
    figure = line.draw("crowd.mp4")
    assert figure is not None
    assert figure.axes[-1].get_ylabel() == "نفر ۱۲"
    assert figure.axes[-1].get_xlabel() == "زمان (دقیقه:ثانیه)"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["شاد", "خشمگین"]
    assert figure.get_suptitle() == "crowd.mp4 (۲ نفر دیگر نشان داده نشده‌اند)"
    ticks = [label.get_text() for label in figure.axes[-1].get_xticklabels()]
    assert not any(set("0123456789") & set(tick) for tick in ticks)


def test_a_persian_timeline_is_drawn_with_joined_letters(tmp_path) -> None:
    """The picture equals one that is drawn with joined letter shapes from left to right."""
    pictures = []
    for names in (SHAPES, [f"\u202d{shapes[::-1]}\u202c" for shapes in SHAPES.values()]):
        line = Timeline([*names])
        line.add(0.0, _person(1), np.full((1, len(SHAPES)), 1 / len(SHAPES)))
        figure = line.draw("x.mp4")
        assert figure is not None
        save_figure(figure, tmp_path / "timeline.png", dpi=80)
        pictures.append(cv2.imread(str(tmp_path / "timeline.png")))
    assert np.array_equal(*pictures)
