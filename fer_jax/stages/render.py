"""render: draws clips and photographs of generated people in parallel processes.

videos/p<person>_<emotion>_<i>.mp4, videos/scene_<i>.mp4    clips
photographs/person_<person>/<emotion>/<i>.jpg               labelled photographs
newcomers/p<person>_<emotion>.{mp4,jpg}                     other people, to try the final model on
sheet.png                                                   a photograph of each person and emotion
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

from fer_jax import console, schemas
from fer_jax.faces import drawing
from fer_jax.faces.images import read_image
from fer_jax.faces.video import write_video
from fer_jax.languages.language import spoken
from fer_jax.people import EMOTIONS, clip_frames, photograph, scene_frames
from fer_jax.schemas.stages import Newcomers
from fer_jax.workdir import stage
from fer_jax.workers import WorkerPool

# The same frames must be encoded to the same bytes, which x264's macroblock tree prevents.
_ENCODER = {"crf": "24", "threads": "1", "x264-params": "mbtree=0"}


@dataclass(frozen=True)
class _Job:
    """One file to draw.

    `write(path, *arguments)` writes it; `pictures` is the number of frames of a clip, else 1.
    """

    path: Path
    write: Callable[..., None]
    arguments: tuple[Any, ...]
    pictures: int


@stage(doing="doing.render")
def run(config: schemas.Render, workdir: Path) -> dict[str, Any]:
    """Draws the files that `config` describes and that do not exist in `workdir` yet."""
    clips, photographs = _clips(config, workdir), _photographs(config, workdir)
    jobs = clips + photographs + _newcomers(config, workdir)
    missing = [job for job in jobs if not job.path.exists()]
    words = spoken()
    if earlier := len(jobs) - len(missing):
        files = words.count(len(jobs), "file")
        console.result("render_earlier", number=words.count(earlier), files=files)
    started = time.perf_counter()
    _draw_all(missing, config.workers or os.cpu_count() or 1)
    drawn = sum(job.pictures for job in missing)
    elapsed = time.perf_counter() - started
    firsts = [job for job in photographs if job.arguments[2] == 0]
    if firsts:
        sheet = drawing.contact_sheet(
            [read_image(job.path) for job in firsts],
            [f"person {job.arguments[0]}\n{job.arguments[1]}" for job in firsts],
            title=f"{config.photographs.people} people, a photograph of each emotion",
            columns=2 * len(EMOTIONS),
        )
        drawing.write_image(workdir / "sheet.png", sheet)
    console.result(
        "render",
        clips=words.count(len(clips), "clip"),
        photographs=words.count(len(photographs), "photograph"),
        pictures=words.count(drawn, "picture"),
    )
    return {
        "clips": len(clips),
        "photographs": len(photographs),
        "frames": sum(job.pictures for job in clips),
        "drawn": drawn,
        "frames_per_s": round(drawn / elapsed, 1),
    }


def _clips(config: schemas.Render, workdir: Path) -> list[_Job]:
    clips, folder = config.clips, workdir / "videos"
    shape = (clips.frames, clips.fps, config.size)
    jobs = []
    for person, emotion, i in itertools.product(_people(clips), EMOTIONS, range(clips.per_emotion)):
        path = folder / f"p{person:03d}_{emotion}_{i}.mp4"
        jobs.append(_Job(path, write_clip, (person, emotion, i, *shape), clips.frames))
    for i in range(clips.scenes):
        jobs.append(_Job(folder / f"scene_{i:02d}.mp4", write_scene, (i, *shape), clips.frames))
    return jobs


def _photographs(config: schemas.Render, workdir: Path) -> list[_Job]:
    group, folder, jobs = config.photographs, workdir / "photographs", []
    for person, emotion, i in itertools.product(_people(group), EMOTIONS, range(group.per_emotion)):
        path = folder / f"person_{person:02d}" / emotion / f"{i}.jpg"
        jobs.append(_Job(path, write_photograph, (person, emotion, i, config.size), 1))
    return jobs


def _newcomers(config: schemas.Render, workdir: Path) -> list[_Job]:
    """The jobs for a clip and a photograph of each newcomer.

    Each newcomer shows one emotion, and the emotions take turns.
    """
    clips, size = config.clips, config.size
    jobs = []
    for person, emotion in zip(_people(config.newcomers), itertools.cycle(EMOTIONS)):
        path = workdir / "newcomers" / f"p{person:03d}_{emotion}.mp4"
        shape = (clips.frames, clips.fps, size)
        jobs.append(_Job(path, write_clip, (person, emotion, 0, *shape), clips.frames))
        jobs.append(_Job(path.with_suffix(".jpg"), write_photograph, (person, emotion, 0, size), 1))
    return jobs


def _people(group: Newcomers) -> range:
    return range(group.first_person, group.first_person + group.people)


def _draw_all(jobs: Sequence[_Job], workers: int) -> None:
    """Draws the files in worker processes."""
    if not jobs:
        return
    pictures = sum(job.pictures for job in jobs)
    with (
        console.Progress(total=pictures, unit="picture") as progress,
        WorkerPool(min(workers, len(jobs)), cv2.setNumThreads, 1) as pool,
    ):
        for future in as_completed([pool.submit(_draw, job) for job in jobs]):
            progress.update(future.result())


def _draw(job: _Job) -> int:
    job.write(job.path, *job.arguments)
    return job.pictures


def write_photograph(
    path: Path, person: int, emotion: str, index: int, size: tuple[int, int]
) -> None:
    """Writes the picture of `people.photograph` in the format of the path's suffix."""
    drawing.write_image(path, photograph(person, emotion, index, size), quality=93)


def write_clip(
    path: Path, person: int, emotion: str, index: int, frames: int, fps: int, size: tuple[int, int]
) -> None:
    """Writes the frames of `people.clip_frames` as an H.264 video."""
    write_video(path, float(fps), clip_frames(person, emotion, index, frames, fps, size), _ENCODER)


def write_scene(path: Path, index: int, frames: int, fps: int, size: tuple[int, int]) -> None:
    """Writes the frames of `people.scene_frames` as an H.264 video."""
    write_video(path, float(fps), scene_frames(index, frames, size), _ENCODER)
