"""Numbers the people in a video, from 1; a person who is recognised after a cut keeps the number.

    numbering = Numbering(every_s=0.2)
    for time_s, image, faces in frames:
        for people in numbering.add(time_s, image, faces):
            ... # the numbers of the faces of one frame; frames come in order
    for people in numbering.close():
        ...

Within a shot, a face is tracked by the overlap of its boxes. After a cut, or if somebody enters,
the appearance of the new face is compared with that of the people who are not in the picture.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float, Int, UInt8

from fer_jax.faces.appearance import describe, difference
from fer_jax.faces.mtcnn import Faces
from fer_jax.faces.shots import CutFinder
from fer_jax.faces.tracks import Tracker, longest_gap

UNKNOWN = 0
"""The number of a face that was seen too briefly to count as a person: maybe a false detection."""

# Chosen on one half of the clips of benchmarks/people_in_video.py and on generated people.
_SAME_PERSON = 0.065  # largest difference between the means of two tracks of a person
_SAME_TRACK = 0.11  # largest difference between a track and its next face
_EXCHANGED = 0.06  # two tracks are exchanged if this lowers the sum of differences by more
_WAIT = 5  # frames in which a new face is watched before it gets its number
_LEAST_FACES = 3  # faces of a new person; fewer if the shot ends earlier
_AVERAGED = 25  # faces in the mean of a track; earlier ones fade
_REMEMBERED_TRACKS, _REMEMBERED_PEOPLE = 5, 200


@dataclasses.dataclass(eq=False)
class _Person:
    """A person with a number, and the last tracks that belong to this person."""

    number: int
    tracks: deque[_Track] = dataclasses.field(
        default_factory=lambda: deque(maxlen=_REMEMBERED_TRACKS)
    )

    def difference(self, track: _Track) -> float:
        """The difference in appearance between `track` and the most similar track of the person."""
        return min(difference(own.mean, track.mean) for own in self.tracks)


@dataclasses.dataclass(eq=False)
class _Track:
    """A face that is tracked through a shot.

    Attributes:
        first: the index of its first frame.
        last_s: the time of its last frame in seconds.
        mean, last: the running mean of the descriptions of its faces, and the last description.
        seen: the number of frames in which it was seen.
        before: the track at the same position that was ended because this one looks different; None
            if there is none, or once this track has its number.
        beside: the other tracks in the same frames, as long as this track's person is unknown.
        person: None until the person is known.
        number: the person's number, or `UNKNOWN`; None until it is decided.
    """

    first: int
    last_s: float
    mean: Float[np.ndarray, " n"]
    last: Float[np.ndarray, " n"]
    before: _Track | None = None
    seen: int = 1
    beside: set[_Track] = dataclasses.field(default_factory=set)
    person: _Person | None = None
    number: int | None = None

    def accepts(self, look: Float[np.ndarray, " n"]) -> bool:
        """Whether a face at the same position looks the same, given its description `look`.

        If not, it may be another person, after a cut that `CutFinder` did not detect.
        """
        return min(difference(self.last, look), difference(self.mean, look)) <= _SAME_TRACK

    def resumes(self, look: Float[np.ndarray, " n"]) -> bool:
        """Whether a face belongs to the track `before` rather than to this one.

        That is the case if its description `look` matches `before`, and if the person of `before`,
        where known, may also be the person of this track.
        """
        before = self.before
        return (
            before is not None
            and before.accepts(look)
            and (before.person is None or self.may_be(before.person))
        )

    def add(self, time_s: float, look: Float[np.ndarray, " n"]) -> None:
        self.seen += 1
        self.mean = self.mean + (look - self.mean) / min(self.seen, _AVERAGED)
        self.last, self.last_s = look, time_s

    def may_be(self, person: _Person) -> bool:
        """Whether the track may belong to `person`: no track in the same frames already does."""
        return all(other.person is not person for other in self.beside)


class Numbering:
    """Numbers the people of one video in one pass over its frames, in order.

    A face gets its number up to 5 frames after its first frame, so the numbers of a frame are
    returned with a delay. Returned numbers are not revised. The memory required does not grow with
    the length of the video.

    Args:
        every_s: seconds between the frames. A face is tracked over gaps of up to
            `longest_gap(every_s)` seconds.
    """

    def __init__(self, every_s: float = 0.0) -> None:
        self._longest_gap_s = longest_gap(every_s)
        self._tracker = Tracker(longest_gap_s=self._longest_gap_s)
        self._cuts = CutFinder()
        self._frame = -1
        self._live: dict[int, _Track] = {}  # by the tracker's number
        self._undecided: list[_Track] = []
        self._waiting: deque[list[_Track]] = deque()  # the faces of each frame
        self._people: list[_Person] = []  # in the order of their last appearance
        self._count = 0

    def add(
        self, time_s: float, image: UInt8[np.ndarray, "h w 3"], faces: Faces
    ) -> Iterator[Int[np.ndarray, " n"]]:
        """Adds the next frame; yields the people's numbers in the frames decided now, in order.

        Args:
            time_s: the time of the frame in seconds, which may go backwards in joined recordings.
            image: uint8 [H, W, 3] RGB.
            faces: the faces of the frame, in any order.

        Yields:
            For each frame, one number per face, in the order of its faces. It is UNKNOWN for a face
            that resembles nobody and was seen in only one or two frames, unless the shot ended
            right after these.
        """
        if self._cuts.update(image):
            self._end_shot()
        self._frame += 1
        looks = [describe(image, landmarks) for landmarks in faces.landmarks]
        tracks = self._follow(time_s, faces, looks)
        for track in tracks:
            if track.person is None:
                track.beside.update(other for other in tracks if other is not track)
        self._waiting.append(tracks)
        again = [track for track in tracks if track.number == UNKNOWN]
        due = [track for track in self._undecided if self._frame - track.first >= _WAIT]
        self._decide(again + due)
        return self._decided()

    def close(self) -> Iterator[Int[np.ndarray, " n"]]:
        """Ends the video; yields the people's numbers in each remaining frame, in order."""
        self._end_shot()
        return self._decided()

    def _follow(
        self, time_s: float, faces: Faces, looks: list[Float[np.ndarray, " n"]]
    ) -> list[_Track]:
        """The track of each face, continued or new."""
        tracks = []
        live = {
            number: track
            for number, track in self._live.items()
            if abs(time_s - track.last_s) <= self._longest_gap_s
        }
        numbers = self._tracker.update(time_s, faces.boxes).tolist()
        _exchange(live, numbers, looks)
        for number, look in zip(numbers, looks, strict=True):
            track = live.get(number)
            if track is not None and track.resumes(look) and _replaces_alone(track, live):
                track = track.before
            if track is not None and track.accepts(look):
                track.add(time_s, look)
            else:
                track = _Track(self._frame, time_s, look, look, before=track)
                self._undecided.append(track)
            live[number] = track
            tracks.append(track)
        self._live = live
        return tracks

    def _end_shot(self) -> None:
        self._decide(self._undecided)
        self._tracker.forget()
        self._live = {}

    def _decide(self, tracks: Iterable[_Track]) -> None:
        """Assigns people to tracks, the most similar pairs first.

        A track that resembles nobody gets a new person if it was seen often enough. Otherwise, it
        gets the person of the track that it replaced, if possible, or else UNKNOWN.
        """
        tracks = list(tracks)
        differences = [
            (person.difference(track), track, person) for track in tracks for person in self._people
        ]
        close = [pair for pair in differences if pair[0] <= _SAME_PERSON]
        for _, track, person in sorted(close, key=lambda pair: pair[0]):
            if track.person is None and track.may_be(person):
                self._identify(track, person)
        for track in tracks:
            before, enough = track.before, _LEAST_FACES
            if before is None:
                enough = min(enough, self._frame - track.first + 1)
            if track.person is None and track.seen >= enough:
                self._count += 1
                self._identify(track, _Person(self._count))
            elif (
                track.person is None
                and before
                and before.person
                and track.may_be(before.person)
                and _replaces_alone(track, self._live)
            ):
                track.person = before.person  # who looked different for a moment
            track.before = None
            track.number = UNKNOWN if track.person is None else track.person.number
        self._undecided = [track for track in self._undecided if track.number is None]

    def _identify(self, track: _Track, person: _Person) -> None:
        # If two tracks belong to one person, the earlier one has ended.
        self._live = {n: other for n, other in self._live.items() if other.person is not person}
        track.person = person
        track.beside.clear()
        person.tracks.append(track)
        self._people = [other for other in self._people if other is not person]
        self._people = [*self._people, person][-_REMEMBERED_PEOPLE:]

    def _decided(self) -> Iterator[Int[np.ndarray, " n"]]:
        while self._waiting and all(track.number is not None for track in self._waiting[0]):
            yield np.array([track.number for track in self._waiting.popleft()], np.int64)


def _replaces_alone(track: _Track, live: dict[int, _Track]) -> bool:
    """Whether no third track in `live` has the person of the track that `track` replaced.

    True if `track` replaced no track, or one without a known person.
    """
    person = track.before and track.before.person
    others = [other for other in live.values() if other not in (track, track.before)]
    return person is None or all(other.person is not person for other in others)


def _exchange(
    live: dict[int, _Track], numbers: list[int], looks: list[Float[np.ndarray, " n"]]
) -> None:
    """Exchanges two tracks in `live` if their faces, taken together, fit much better exchanged.

    In that case the two people have probably changed places at a cut that `CutFinder` did not
    detect. One of the two faces may be missing in this frame if the person of its track is known;
    the other face alone then decides.

    Args:
        live: the tracks by the tracker's number.
        numbers: the tracker's number of each face.
        looks: the description of each face.
    """
    look_of = dict(zip(numbers, looks, strict=True))
    known = [number for number, track in live.items() if number in look_of or track.person]
    for pair in itertools.combinations(known, 2):
        one, other = (live[number] for number in pair)
        gain = 0.0
        for number, own, its in zip(pair, (one, other), (other, one), strict=True):
            if number in look_of:
                look = look_of[number]
                gain += difference(own.mean, look) - difference(its.mean, look)
        if gain > _EXCHANGED:
            live |= dict(zip(pair, (other, one), strict=True))
