"""Generated people as clips and photographs, drawn in parallel processes.

videos/p<person>_<emotion>_<i>.mp4, videos/scene_<i>.mp4    clips
photographs/person_<person>/<emotion>/<i>.jpg               labelled photographs
newcomers/p<person>_<emotion>.{mp4,jpg}                     people for the finished model to read
sheet.png                                                   a photograph of each person, emotion
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from fer_jax import console, schemas
from fer_jax.faces import drawing
from fer_jax.faces.images import read_image
from fer_jax.people import EMOTIONS, write_clip, write_photograph, write_scene
from fer_jax.schemas.stages import Newcomers
from fer_jax.workdir import atomic_file, stage
from fer_jax.workers import WorkerPool

_SHEET_COLUMNS = 3  # of people, each of as many pictures as there are emotions
_SHEET_CELL = 120  # pixels


@dataclass(frozen=True)
class _Job:
    """One file to draw: `write(path, *arguments)` draws `pictures` of them."""

    path: Path
    write: Callable[..., None]
    arguments: tuple[Any, ...]
    pictures: int


@stage(inputs=lambda config: [])
def run(config: schemas.Render, workdir: Path) -> dict[str, Any]:
    """Draws what `config` asks for and `workdir` does not hold yet."""
    clips, photographs = _clips(config, workdir), _photographs(config, workdir)
    jobs = clips + photographs + _newcomers(config, workdir)
    missing = [job for job in jobs if not job.path.exists()]
    if len(missing) < len(jobs):
        console.say(f"[render] {len(jobs) - len(missing)} files are there already")
    started = time.perf_counter()
    _draw_all(missing, config.workers or os.cpu_count() or 1)
    drawn = sum(job.pictures for job in missing)
    elapsed = time.perf_counter() - started
    _write_contact_sheet(workdir / "sheet.png", _sheet_pictures(config, workdir))
    return {
        "clips": len(clips),
        "photographs": len(photographs),
        "frames": sum(job.pictures for job in clips),
        "drawn": drawn,
        "frames_per_s": round(drawn / elapsed, 1),
    }


def _clips(config: schemas.Render, workdir: Path) -> list[_Job]:
    clips = config.clips
    shape = (clips.frames, clips.fps, tuple(config.size))
    jobs = [
        _Job(
            workdir / "videos" / f"p{person:03d}_{emotion}_{i}.mp4",
            write_clip,
            (person, emotion, i, *shape),
            clips.frames,
        )
        for person in _people(clips)
        for emotion in EMOTIONS
        for i in range(clips.per_emotion)
    ]
    return jobs + [
        _Job(workdir / "videos" / f"scene_{i:02d}.mp4", write_scene, (i, *shape), clips.frames)
        for i in range(clips.scenes)
    ]


def _photographs(config: schemas.Render, workdir: Path) -> list[_Job]:
    photographs = config.photographs
    return [
        _Job(
            _photograph_path(workdir, person, emotion, i),
            write_photograph,
            (person, emotion, i, tuple(config.size)),
            1,
        )
        for person in _people(config.photographs)
        for emotion in EMOTIONS
        for i in range(photographs.per_emotion)
    ]


def _newcomers(config: schemas.Render, workdir: Path) -> list[_Job]:
    """A clip and a photograph of each, with the emotions in turn."""
    clips, size = config.clips, tuple(config.size)
    jobs = []
    for person, emotion in zip(_people(config.newcomers), itertools.cycle(EMOTIONS)):
        path = workdir / "newcomers" / f"p{person:03d}_{emotion}.mp4"
        shape = (clips.frames, clips.fps, size)
        jobs.append(_Job(path, write_clip, (person, emotion, 0, *shape), clips.frames))
        path = path.with_suffix(".jpg")
        jobs.append(_Job(path, write_photograph, (person, emotion, 0, size), 1))
    return jobs


def _people(group: Newcomers) -> range:
    return range(group.first_person, group.first_person + group.people)


def _photograph_path(workdir: Path, person: int, emotion: str, index: int) -> Path:
    return workdir / "photographs" / f"person_{person:02d}" / emotion / f"{index}.jpg"


def _draw_all(jobs: Sequence[_Job], workers: int) -> None:
    """Draws every job, in processes that share nothing with this one."""
    if not jobs:
        return
    pictures = sum(job.pictures for job in jobs)
    with (
        tqdm(total=pictures, desc="render", unit="frame", mininterval=0.5) as progress,
        WorkerPool(min(workers, len(jobs)), cv2.setNumThreads, 1) as pool,
    ):
        for future in as_completed([pool.submit(_draw, job) for job in jobs]):
            progress.update(future.result())


def _draw(job: _Job) -> int:
    with atomic_file(job.path) as temporary:
        job.write(temporary, *job.arguments)
    return job.pictures


def _sheet_pictures(config: schemas.Render, workdir: Path) -> list[list[Path]]:
    """For each photographed person, the first photograph of every emotion."""
    if not config.photographs.per_emotion:
        return []
    return [
        [_photograph_path(workdir, person, emotion, 0) for emotion in EMOTIONS]
        for person in _people(config.photographs)
    ]


def _write_contact_sheet(path: Path, people: list[list[Path]]) -> None:
    """Lays small photographs in a grid: a row of emotions for each person, people in columns."""
    if not people:
        return
    cell = _SHEET_CELL
    rows = -(-len(people) // _SHEET_COLUMNS)
    columns = -(-len(people) // rows) * len(EMOTIONS)
    sheet = np.full((rows * cell, columns * cell, 3), 255, np.uint8)
    for number, photographs in enumerate(people):
        top = number % rows * cell
        for place, photograph in enumerate(photographs):
            image = read_image(photograph)
            height, width = image.shape[:2]
            side = min(height, width)
            middle = image[:side, (width - side) // 2 : (width + side) // 2]
            left = (number // rows * len(EMOTIONS) + place) * cell
            sheet[top : top + cell, left : left + cell] = cv2.resize(
                middle, (cell, cell), interpolation=cv2.INTER_AREA
            )
    drawing.write_image(path, sheet)
