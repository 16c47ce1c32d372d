"""Measures the numbering of people in videos: two side by side, and people who leave and return.

    python -m benchmarks people_in_video --clips=DIR
    python -m benchmarks people_in_video --clips=DIR --half=choice      # for choosing thresholds

DIR contains clips of one person each, with one clip per person. In alphabetical order, every other
clip is for choosing thresholds, and the others are for the measurement. Videos are made from these
clips (5 frames/s, 480 pixels high):

    side by side      two clips at once, up to 40 frames
    sides swapped     the same; halfway, after a cut, each person is on the other side
    A B A, A B C A,   shots of 12 frames of one person each; if the clip is long enough, a person
    A A, A B A B      returns in a later part of it, with the same clothes and surroundings

Each video is measured unchanged ("plain"), without about a tenth of the faces and, if it shows two
people at once, without one of them for 2.4 s ("missed"), and with every shot resized by a factor of
0.4 to 1 and in another light, with a gain of 0.6 to 1.3 and a gamma of 0.7 to 1.4 ("changed"). The
starter's detector finds the faces. Prints, by kind and variant: the videos with the right number of
people; how often a person's number changes (identity swaps); the faces with the right number, by
the best match of numbers and people; the faces without a number; and the first three also for
tracks alone, without the comparison of appearances. False detections that get a number count as
people.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
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
    """A composed video: frames, their faces (best first), and the range of x of each person."""

    kind: str
    frames: list[Image]
    faces: list[Faces]
    people: list[list[tuple[float, float, int]]]  # left, right, person


@dataclass
class Score:
    """Counts of videos and faces, summed over the videos of one kind and variant.

    Attributes:
        videos: all videos.
        right_count: videos with the right number of people.
        swaps: changes of a person's number.
        faces: faces of people, without false detections.
        right: those of `faces` with the right number.
        unknown: those of `faces` without a number.
    """

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
    options = parser.parse_args()
    paths = list_videos(options.clips)
    paths = {"choice": paths[::2], "measurement": paths[1::2], "all": paths}[options.half]
    started = time.process_time()
    clips = [load(path) for path in paths]
    searched = sum(map(len, clips))
    search_ms = 1e3 * (time.process_time() - started) / searched
    scores: dict[tuple[str, str, str], Score] = defaultdict(Score)
    flips = frames = numbered = 0
    spent = 0.0
    for variant in ("plain", "missed", "changed"):
        rng = np.random.default_rng(0)
        for number, video in enumerate(make(clips, rng, variant == "changed")):
            if variant == "missed":
                video.faces = miss(video, np.random.default_rng(number))
            started = time.process_time()
            numbers = number_people(video)
            spent += time.process_time() - started
            numbered += len(numbers)
            rate(scores[video.kind, variant, "numbering"], video, numbers)
            rate(scores[video.kind, variant, "tracks"], video, track(video))
            if variant == "plain" and len(video.people[0]) > 1:
                frames += len(video.frames)
                flips += order_flips(video)
    print(f"{len(clips)} clips, {searched} frames, searched in {search_ms:.0f} processor ms each")
    print(f"numbering: {1e3 * spent / numbered:.1f} ms per frame (processor time)")
    print(f"the best face changes to the other person in {flips} of {frames} frames of two people")
    print(table(scores))


def load(path: Path) -> list[tuple[Image, Faces]]:
    """The sampled frames of a clip, 480 pixels high, each with its faces."""
    record = trained_model.load("starter").record.faces
    assert record is not None
    images: list[Image] = []
    for frame in sample_frames(path, EVERY_S):
        width = round(frame.image.shape[1] * HEIGHT / frame.image.shape[0] / 2) * 2
        images.append(cv2.resize(frame.image, (width, HEIGHT), interpolation=cv2.INTER_AREA))
    found: list[Faces] = []
    for start in range(0, len(images), 8):
        found += find_faces(images[start : start + 8], record)
    return list(zip(images, found, strict=True))


Clip = list[tuple[Image, Faces]]
Shot = list[tuple[Image, Faces, list[tuple[float, float, int]]]]


def make(clips: list[Clip], rng: np.random.Generator, changed: bool) -> Iterator[Made]:
    """Yields videos of two people, with and without swapped sides, and videos of each pattern."""
    count = len(clips)
    steps = itertools.product(range(count), (1, 2))
    pairs = sorted({tuple(sorted((i, (i + step) % count))) for i, step in steps})
    for a, b in pairs:
        length = min(TOGETHER, len(clips[a]), len(clips[b]))
        one, other = [(clips[a][:length], a)], [(clips[b][:length], b)]
        yield join("side by side", [shot([*one, *other], rng, changed)])
        half = length // 2
        before = [(clips[a][:half], a), (clips[b][:half], b)]
        after = [(clips[b][half:length], b), (clips[a][half:length], a)]
        yield join("sides swapped", [shot(before, rng, changed), shot(after, rng, changed)])
    for pattern in PATTERNS:
        for first in range(count):
            used: dict[int, int] = defaultdict(int)
            shots = []
            for letter in pattern:
                who = (first + "ABC".index(letter) * (1 + first % 3)) % count
                start = min(used[who] * SHOT, max(0, len(clips[who]) - SHOT))
                used[who] += 2  # a later part than where the person left
                shots.append(shot([(clips[who][start : start + SHOT], who)], rng, changed))
            yield join(" ".join(pattern), shots)


def shot(parts: list[tuple[Clip, int]], rng: np.random.Generator, changed: bool) -> Shot:
    """The frames of parts of clips, side by side; with `changed`, in another size and light."""
    size, levels = 1.0, np.arange(256, dtype=np.uint8)
    if changed:
        gain, gamma, size = rng.uniform(0.6, 1.3), rng.uniform(0.7, 1.4), rng.uniform(0.4, 1.0)
        levels = np.clip(255 * gain * (np.arange(256) / 255) ** gamma, 0, 255).astype(np.uint8)
    frames: Shot = []
    for index in range(min(len(clip) for clip, _ in parts)):
        image = np.concatenate([clip[index][0] for clip, _ in parts], 1)
        height, width = (round(side * size) for side in image.shape[:2])
        scale = np.array([width / image.shape[1], height / image.shape[0]])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        left, boxes, scores, landmarks, people = 0, [], [], [], []
        for clip, who in parts:
            part, faces = clip[index]
            boxes.append((faces.boxes + np.array([left, 0, left, 0])) * np.tile(scale, 2))
            landmarks.append((faces.landmarks + np.array([left + 0.5, 0.5])) * scale - 0.5)
            scores.append(faces.scores)
            right = left + part.shape[1]
            people.append((left * scale[0], right * scale[0], who))
            left = right
        order = np.argsort(-np.concatenate(scores), kind="stable")
        found = Faces(np.concatenate(boxes), np.concatenate(scores), np.concatenate(landmarks))
        frames.append((levels[image], found.take(order), people))
    return frames


def join(kind: str, shots: Sequence[Shot]) -> Made:
    images, found, people = zip(*itertools.chain.from_iterable(shots), strict=True)
    return Made(kind, list(images), list(found), list(people))


def owners(faces: Faces, people: list[tuple[float, float, int]]) -> list[int]:
    """The person to whom each face belongs; -1 for a false detection.

    The largest face in a person's range of x is that of the person; all others are false.
    """
    found = [-1] * len(faces)
    sizes = (faces.boxes[:, 2:] - faces.boxes[:, :2]).prod(1)
    middles = faces.boxes[:, [0, 2]].mean(1)
    for left, right, who in people:
        inside = np.flatnonzero((left <= middles) & (middles < right))
        if len(inside):
            found[inside[sizes[inside].argmax()]] = who
    return found


def order_flips(video: Made) -> int:
    """How often the best face changes to another person, over frames with two or more faces."""
    best = [
        owners(faces, people)[0]
        for faces, people in zip(video.faces, video.people, strict=True)
        if len(faces) > 1 and len(people) > 1
    ]
    return sum(a != b for a, b in itertools.pairwise(best))


def miss(video: Made, rng: np.random.Generator) -> list[Faces]:
    """Leaves out about a tenth of the faces and, in videos of two people, one person for 2.4 s."""
    start = int(rng.integers(6, 14))
    kept = []
    for index, (faces, people) in enumerate(zip(video.faces, video.people, strict=True)):
        stay = rng.random(len(faces)) > 0.1
        if len(people) > 1 and start <= index < start + 12:
            stay &= np.array(owners(faces, people), int) != video.people[0][0][2]
        kept.append(faces.take(stay))
    return kept


def number_people(video: Made) -> list[np.ndarray]:
    numbering, numbers = Numbering(EVERY_S), []
    for index, (image, faces) in enumerate(zip(video.frames, video.faces, strict=True)):
        numbers += numbering.add(EVERY_S * index, image, faces)
    return [*numbers, *numbering.close()]


def track(video: Made) -> list[np.ndarray]:
    """The numbers of tracks as in `extract`, without the comparison of appearances."""
    tracker, cuts, numbers = Tracker(), CutFinder(), []
    for index, (image, faces) in enumerate(zip(video.frames, video.faces, strict=True)):
        if cuts.update(image):
            tracker.forget()
        numbers.append(tracker.update(EVERY_S * index, faces.boxes) + 1)
    return numbers


def rate(score: Score, video: Made, numbers: list[np.ndarray]) -> None:
    """Adds the result of one video to `score`."""
    counts: dict[tuple[int, int], int] = defaultdict(int)
    last: dict[int, int] = {}
    seen, shown = set(), set()
    for faces, people, given in zip(video.faces, video.people, numbers, strict=True):
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
