"""A picture of the emotions of each person in a video over time."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from fer_jax.faces.drawing import PALETTE, clock
from fer_jax.faces.tracks import longest_gap
from fer_jax.languages.language import ENGLISH, Language

if TYPE_CHECKING:  # importing matplotlib takes 0.3 s; photographs do not need it
    from matplotlib.figure import Figure

MOST_PEOPLE = 12
"""Maximum number of panels in a picture, for the people who are seen in the most frames."""
_WIDTH, _PANEL, _REST = 11.0, 1.25, 1.1  # inches: width, and heights of a panel and of the rest
_MOST_POINTS = 4000  # in a panel; if there are more frames, groups of them are averaged


@dataclasses.dataclass
class _Seen:
    """The times in seconds at which a person is seen, and the probabilities of all these faces.

    `probabilities` contains one value per class for the first face, then for the second, and so on.
    """

    times: array[float] = dataclasses.field(default_factory=lambda: array("d"))
    probabilities: array[float] = dataclasses.field(default_factory=lambda: array("f"))


class Timeline:
    """Collects the probabilities of the people of one video, and draws them.

    It needs 8 bytes per face and 4 bytes per face and class: 0.7 MB for 20,000 faces and 7 classes.

    Args:
        labels: the classes.
        words: the language of the picture.
    """

    def __init__(self, labels: Sequence[str], words: Language = ENGLISH) -> None:
        self._names, self._words = [words.emotion(label) for label in labels], words
        self._people: dict[int, _Seen] = {}
        self._first_s, self._last_s = np.inf, -np.inf

    def add(
        self,
        time_s: float,
        people: Int[np.ndarray, " n"],
        probabilities: Float[np.ndarray, "n classes"],
    ) -> None:
        """Adds the faces of a frame; faces that belong to no person (number 0) are left out."""
        self._first_s, self._last_s = min(self._first_s, time_s), max(self._last_s, time_s)
        for person, row in zip(people.tolist(), probabilities, strict=True):
            if person:
                seen = self._people.setdefault(person, _Seen())
                seen.times.append(time_s)
                seen.probabilities.extend(row.tolist())

    def draw(self, title: str) -> Figure | None:
        """Draws a panel per person: stacked probabilities, with gaps while the person is not seen.

        At most 12 people have a panel: those who are seen in the most frames. Returns None if
        nobody was seen.
        """
        if not self._people:
            return None
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        longest = sorted(self._people, key=lambda person: -len(self._people[person].times))
        shown = sorted(longest[:MOST_PEOPLE])
        figure = Figure(figsize=(_WIDTH, _REST + _PANEL * len(shown)), layout="constrained")
        words = self._words
        panels = figure.subplots(len(shown), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        # The same colours as in the annotated video.
        colours = [np.array(PALETTE[i % len(PALETTE)]) / 255 for i in range(len(self._names))]
        step = self._step()
        for person, axes in zip(shown, panels, strict=True):
            for times, shares in self._stretches(person, step):
                axes.stackplot(times, shares.T, colors=colours, labels=self._names, linewidth=0)
            axes.set_ylim(0, 1)
            full = words.text("plot.percent", number=100)
            axes.set_yticks([0, 0.5, 1], [words.number(0), words.number(50), full])
            name = words.text("timeline.person", number=person)
            axes.set_ylabel(name, rotation=0, ha="right", va="center", labelpad=10)
            axes.spines[["top", "right"]].set_visible(False)
        end = max(self._last_s + step / 2, self._first_s + step)
        panels[-1].set_xlim(self._first_s - step / 2, end)
        panels[-1].xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 3, 6, 10]))
        panels[-1].xaxis.set_major_formatter(lambda value, _: words.digits(clock(value)))
        panels[-1].set_xlabel(words.text("timeline.time"))
        last = len(self._names) - 1
        handles, labels = (some[last::-1] for some in panels[0].get_legend_handles_labels())
        figure.legend(handles, labels, loc="outside right upper", frameon=False)
        hidden = len(self._people) - len(shown)
        if hidden:
            title = words.text("timeline.not_shown", title=title, people=hidden)
        figure.suptitle(title)
        return figure

    def _step(self) -> float:
        """The median time between consecutive frames of a person in seconds; 1 if unknown."""
        gaps = [np.diff(seen.times) for seen in self._people.values()]
        joined = np.concatenate(gaps)
        return float(np.median(joined)) if len(joined) else 1.0

    def _stretches(
        self, person: int, step: float
    ) -> list[tuple[Float[np.ndarray, " t"], Float[np.ndarray, "t classes"]]]:
        """Times and probabilities of each interval in which a person is seen.

        An interval is extended by half a step at each end. If there are too many frames to draw,
        groups of frames are averaged.
        """
        seen = self._people[person]
        times = np.array(seen.times)
        shares = np.array(seen.probabilities, np.float64).reshape(len(times), -1)
        shares /= shares.sum(1, keepdims=True)
        ends = np.flatnonzero(np.diff(times) > longest_gap(step)) + 1
        averaged = -(-len(times) // _MOST_POINTS)
        stretches = []
        for part in np.split(np.arange(len(times)), ends):
            groups = np.array_split(part, -(-len(part) // averaged))
            middles = np.array([times[group].mean() for group in groups])
            means = np.array([shares[group].mean(0) for group in groups])
            middles = np.concatenate(
                [[times[part[0]] - step / 2], middles, [times[part[-1]] + step / 2]]
            )
            stretches.append((middles, np.concatenate([means[:1], means, means[-1:]])))
        return stretches
