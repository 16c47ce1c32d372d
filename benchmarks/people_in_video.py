"""Are people in videos numbered right? Two side by side, and people who leave and return.

    python -m benchmarks people_in_video --clips=DIR
    python -m benchmarks people_in_video --clips=DIR --half=choice      # to choose thresholds on

DIR holds clips of one person each, everybody in one clip. The clips in alphabetic order are
divided: every other one is for the choice of thresholds, the others for the measurement. From
these, videos are made (5 frames/s, 480 pixels high, shots of 12 frames):

    side by side      two clips at once, 40 frames
    sides swapped     the same; after a cut, half way, each is on the other side
    A B A, A B C A,   shots of one person each; a person who returns is seen in a later part of
    A A, A B A B      their clip, which has the same clothes and surroundings

Each as it is ("plain"), with a tenth of the faces and one stretch of 2.4 s of one person missed
("missed"), and with another size (0.4 to 1) and light (gain 0.6 to 1.3, gamma 0.7 to 1.4) in each
shot ("changed"). Faces are found by the starter's detector. Prints, by kind: the videos with the
right number of people; how often a person's number changes (identity swaps); the faces with the
right number, by the best match of numbers and people; faces without a number; and the same for
tracks alone, without the comparison of appearances. False detections that get a number count as
people.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from fer_jax.faces.mtcnn import Faces
from fer_jax.faces.numbering import Numbering
from fer_jax.faces.search import find_faces
from fer_jax.faces.shots import CutFinder
from fer_jax.faces.tracks import Tracker
from fer_jax.faces.video import list_videos, sample_frames
from fer_jax.training import trained_model

EVERY_S, HEIGHT, SHOT, TOGETHER = 0.2, 480, 12, 40
PATTERNS = ("ABA", "ABCA", "AA", "ABAB")
Image = np.ndarray


@dataclass
class Made:
    """A made video: its frames, and who is in each, by ranges of x."""

    kind: str
    frames: list[Image]
    people: list[list[tuple[float, float, int]]]  # left, right, person


@dataclass
class Score:
    """Sums over videos of one kind."""

    videos: int = 0
    right_count: int = 0
    swaps: int = 0
    faces: int = 0
    right: int = 0
    unknown: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--half", choices=("choice", "measurement", "all"), default="measurement")
    parser.add_argument("--variants", nargs="*", default=["plain", "missed", "changed"])
    options = parser.parse_args()
    paths = list_videos(options.clips)
    paths = {"choice": paths[::2], "measurement": paths[1::2], "all": paths}[options.half]
    clips = [load(path) for path in paths]
    record = trained_model.load("starter").record.faces
    assert record is not None
    scores: dict[tuple[str, str, str], Score] = defaultdict(Score)
    seconds = {"search": 0.0, "numbering": 0.0}
    flips = frames = numbered = 0
    for changed in (False, True):
        if not changed and not {"plain", "missed"} & {*options.variants}:
            continue
        if changed and "changed" not in options.variants:
            continue
        for number, video in enumerate(make(clips, np.random.default_rng(changed), changed)):
            started = time.process_time()
            found: list[Faces] = []
            for start in range(0, len(video.frames), 8):
                found += find_faces(video.frames[start : start + 8], record)
            seconds["search"] += time.process_time() - started
            frames += len(found)
            flips += order_flips(video, found)
            variants = {"changed": found} if changed else {"plain": found}
            if not changed and "missed" in options.variants:
                variants["missed"] = miss(video, found, np.random.default_rng(number))
            for variant, faces in variants.items():
                started = time.process_time()
                numbers = number_people(video.frames, faces)
                numbered += len(numbers)
                seconds["numbering"] += time.process_time() - started
                rate(scores[video.kind, variant, "numbering"], video, faces, numbers)
                rate(scores[video.kind, variant, "tracks"], video, faces, track(video, faces))
    print(f"{len(clips)} clips; {frames} frames searched; in {flips} another face came first")
    print(
        f"processor ms per frame: search {1e3 * seconds['search'] / frames:.1f}, "
        f"numbering {1e3 * seconds['numbering'] / numbered:.1f}"
    )
    print(table(scores))


def load(path: Path) -> list[Image]:
    """The samples of a clip, 480 pixels high."""
    frames = []
    for frame in sample_frames(path, EVERY_S):
        width = round(frame.image.shape[1] * HEIGHT / frame.image.shape[0] / 2) * 2
        frames.append(cv2.resize(frame.image, (width, HEIGHT), interpolation=cv2.INTER_AREA))
    return frames


def make(clips: list[list[Image]], rng: np.random.Generator, changed: bool) -> Iterator[Made]:
    """Ten or more videos of two people, as many with swapped sides, and those of each pattern."""
    count = len(clips)
    pairs = [(i, (i + step) % count) for step in (1, 2) for i in range(count)]
    pairs = sorted({tuple(sorted(pair)) for pair in pairs})
    for a, b in pairs:
        length = min(TOGETHER, len(clips[a]), len(clips[b]))
        shots = [pair_up(rng, changed, clips[a][:length], a, clips[b][:length], b)]
        yield join("side by side", shots)
        half = length // 2
        shots = [
            pair_up(rng, changed, clips[a][:half], a, clips[b][:half], b),
            pair_up(rng, changed, clips[b][half:length], b, clips[a][half:length], a),
        ]
        yield join("sides swapped", shots)
    for pattern in PATTERNS:
        for first in range(count):
            used: dict[int, int] = defaultdict(int)
            shots = []
            for letter in pattern:
                who = (first + "ABC".index(letter) * (1 + first % 3)) % count
                start = min(used[who] * SHOT, max(0, len(clips[who]) - SHOT))
                used[who] += 2  # not where they left
                shots.append(alone(rng, changed, clips[who][start : start + SHOT], who))
            yield join(" ".join(pattern), shots)


Shot = list[tuple[Image, list[tuple[float, float, int]]]]


def join(kind: str, shots: Sequence[Shot]) -> Made:
    frames = [*itertools.chain.from_iterable(shots)]
    return Made(kind, [image for image, _ in frames], [people for _, people in frames])


def alone(rng: np.random.Generator, changed: bool, frames: list[Image], who: int) -> Shot:
    change = look(rng, changed)
    shot = []
    for frame in frames:
        image = change(frame)
        shot.append((image, [(0.0, float(image.shape[1]), who)]))
    return shot


def pair_up(
    rng: np.random.Generator,
    changed: bool,
    left: list[Image],
    a: int,
    right: list[Image],
    b: int,
) -> Shot:
    change = look(rng, changed)
    shot = []
    for one, other in zip(left, right, strict=True):
        image = change(np.concatenate([one, other], 1))
        middle = image.shape[1] * one.shape[1] / (one.shape[1] + other.shape[1])
        shot.append((image, [(0.0, middle, a), (middle, float(image.shape[1]), b)]))
    return shot


def look(rng: np.random.Generator, changed: bool) -> Callable[[Image], Image]:
    """A change of size and light, the same for all frames of a shot."""
    if not changed:
        return lambda image: image
    gain, gamma, size = rng.uniform(0.6, 1.3), rng.uniform(0.7, 1.4), rng.uniform(0.4, 1.0)
    levels = np.clip(255 * gain * (np.arange(256) / 255) ** gamma, 0, 255).astype(np.uint8)

    def change(image: Image) -> Image:
        small = cv2.resize(image, None, fx=size, fy=size, interpolation=cv2.INTER_AREA)
        return levels[small]

    return change


def owners(faces: Faces, people: list[tuple[float, float, int]]) -> list[int]:
    """Whose each face is, -1 for a false detection: one that is not the largest at its place."""
    found = [-1] * len(faces)
    sizes = (faces.boxes[:, 2:] - faces.boxes[:, :2]).prod(1)
    middles = faces.boxes[:, [0, 2]].mean(1)
    for left, right, who in people:
        inside = np.flatnonzero((left <= middles) & (middles < right))
        if len(inside):
            found[inside[sizes[inside].argmax()]] = who
    return found


def order_flips(video: Made, found: list[Faces]) -> int:
    """Frames of two people in which another person than in the frame before has the best score."""
    best = [
        owners(faces, people)[0]
        for faces, people in zip(found, video.people, strict=True)
        if len(faces) > 1 and len(people) > 1
    ]
    return sum(a != b for a, b in itertools.pairwise(best))


def miss(video: Made, found: list[Faces], rng: np.random.Generator) -> list[Faces]:
    """The faces without a tenth, and without one person for 2.4 s in videos of two."""
    start = int(rng.integers(6, 14))
    kept = []
    for index, (faces, people) in enumerate(zip(found, video.people, strict=True)):
        stay = rng.random(len(faces)) > 0.1
        if len(people) > 1 and start <= index < start + 12:
            stay &= np.array(owners(faces, people), int) != video.people[0][0][2]
        kept.append(faces.take(stay))
    return kept


def number_people(frames: list[Image], found: list[Faces]) -> list[np.ndarray]:
    numbering, numbers = Numbering(EVERY_S), []
    for index, (image, faces) in enumerate(zip(frames, found, strict=True)):
        numbers += numbering.add(EVERY_S * index, image, faces)
    return [*numbers, *numbering.close()]


def track(video: Made, found: list[Faces]) -> list[np.ndarray]:
    """The numbers that tracks alone give, as `extract` makes them."""
    tracker, cuts, numbers = Tracker(), CutFinder(), []
    for index, (image, faces) in enumerate(zip(video.frames, found, strict=True)):
        if cuts.update(image):
            tracker.forget()
        numbers.append(tracker.update(EVERY_S * index, faces.boxes) + 1)
    return numbers


def rate(score: Score, video: Made, found: list[Faces], numbers: list[np.ndarray]) -> None:
    """Adds the result of one video."""
    counts: dict[tuple[int, int], int] = defaultdict(int)
    last: dict[int, int] = {}
    seen, shown = set(), set()
    for faces, people, given in zip(found, video.people, numbers, strict=True):
        assert len({*given[given > 0]}) == (given > 0).sum(), "one number twice in a frame"
        for who, number in zip(owners(faces, people), given.tolist(), strict=True):
            seen |= {number} - {0}
            if who < 0:
                continue
            shown.add(who)
            score.faces += 1
            score.unknown += not number
            if number:
                score.swaps += last.get(who, number) != number
                last[who] = number
                counts[who, number] += 1
    names, given_names = sorted(shown), sorted(seen)
    matrix = np.array([[counts[who, n] for n in given_names] for who in names]).reshape(
        len(names), -1
    )
    rows, columns = linear_sum_assignment(-matrix)
    score.right += int(matrix[rows, columns].sum())
    score.videos += 1
    score.right_count += len(seen) == len(shown)


def table(scores: dict[tuple[str, str, str], Score]) -> str:
    lines = [
        "| video | variant | videos | right count of people | identity swaps | faces | right number"
        " | no number | tracks alone: people, swaps, right |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind, variant, method in scores:
        if method != "numbering":
            continue
        own, other = scores[kind, variant, "numbering"], scores[kind, variant, "tracks"]
        lines.append(
            f"| {kind} | {variant} | {own.videos} | {own.right_count} | {own.swaps} | {own.faces} "
            f"| {own.right / own.faces:.1%} | {own.unknown} "
            f"| {other.right_count}, {other.swaps}, {other.right / other.faces:.1%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
