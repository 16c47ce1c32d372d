"""extract: samples frames of videos, and detects, aligns and crops their faces.

    shards/<video>/                 crops, rows and counts of one video
    manifest.parquet                the faces of all videos
    negatives.parquet               crops without a face, for the verifier
    skipped.csv                     videos that could not be read, or not to the end, with reasons
    quality.png                     histograms of the measurements of the faces
    kept.png                        a sheet of kept faces, with video and time

A run that was killed continues with the videos that have no shard. If videos are added later, only
these are extracted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fer_jax import console, records, schemas
from fer_jax.errors import UserError
from fer_jax.faces import drawing, overview, runners, shards
from fer_jax.faces.selection import REASONS
from fer_jax.faces.shards import Job, Stats
from fer_jax.faces.video import expected_samples, list_videos
from fer_jax.figures import save_figure
from fer_jax.languages.language import spoken
from fer_jax.records import FacePipeline, Search
from fer_jax.spreadsheets import safe_table
from fer_jax.workdir import atomic_file, stage

_SHOWN = 10  # maximum number of unreadable videos that are printed
_ON_SHEET = 96  # maximum number of crops in kept.png


@stage(
    doing="doing.extract",
    grows=True,
)
def run(config: schemas.Extract, workdir: Path) -> dict[str, Any]:
    """Extracts the faces of every video below `config.videos`.

    Raises:
        UserError: `config.videos` does not exist or contains no video, or no video can be read.
    """
    root, jobs = Path(config.videos), []
    for path in list_videos(root):
        video = shards.video_id(path, root)
        jobs.append(Job(path, video, workdir / "shards" / shards.shard_name(video), config))
    stats = {job.video: found for job in jobs if (found := shards.finished(job))}
    missing = [job for job in jobs if job.video not in stats]
    if stats:
        videos = spoken().count(len(jobs), "video")
        console.result("extract_earlier", number=len(stats), videos=videos)
    started = time.time()
    new, first_frame_at = _extract_all(missing, config)
    elapsed = time.time() - started
    stats |= new
    ordered = [stats[job.video] for job in jobs]
    skipped = _report_bad_videos(ordered, workdir / "skipped.csv")
    if skipped == len(jobs):
        raise UserError(
            f"extract: no video in {config.videos} can be read, for the reasons in "
            f"{workdir / 'skipped.csv'}; set --config.videos to other videos"
        )
    cut = FacePipeline(detector=config.detector, search=Search(), crop=config.crop)
    records.write(workdir / records.FACES, cut)
    faces = shards.merge([job.shard for job in jobs], workdir)
    histograms = overview.histograms(faces, config.limits)
    save_figure(histograms, workdir / "quality.png", dpi=110)
    drawing.write_image(workdir / "kept.png", overview.kept_sheet(faces, workdir, _ON_SHEET))
    searched = sum(one.kept_frames for one in new.values())
    return {
        "videos": len(jobs),
        "skipped": skipped,
        "damaged": sum(bool(one.error) for one in ordered) - skipped,
        **_totals(ordered, faces),
        "frames_per_s": round(searched / elapsed, 1) if searched else 0.0,
        "wall_s": round(time.time() - started, 2),
        "time_to_first_frame_s": round(first_frame_at - started, 2) if searched else 0.0,
    }


def _extract_all(jobs: Sequence[Job], config: schemas.Extract) -> tuple[dict[str, Stats], float]:
    """Extracts the videos; returns their counts, and the time at which the first frames were done.

    The time is in seconds since the epoch; 0.0 if there were no frames.
    """
    stats: dict[str, Stats] = {}
    first: list[float] = []
    words = spoken()
    videos = words.count(len(jobs), "video")
    expected = sum(expected_samples(job.path, config.every_s) or 0 for job in jobs)
    with console.Progress(total=expected or None, unit="frame") as progress:

        def count(frames: int) -> None:
            first[:] = first or [time.time()]
            progress.update(frames)

        for number, one in enumerate(runners.run(jobs, config, count), 1):
            stats[one.video] = one
            progress.note(words.text("progress.of_videos", number=number, videos=videos))
    return stats, first[0] if first else 0.0


def _report_bad_videos(stats: Sequence[Stats], path: Path) -> int:
    """Writes the videos that could not be read completely to `path`, and prints the first ten.

    Returns how many of them have no frame at all.
    """
    bad = [one for one in stats if one.error]
    columns = ["video", "reason", "detail", "frames_kept", "frames_failed"]
    rows = [(one.video, one.error, one.detail, one.kept_frames, one.failed) for one in bad]
    with atomic_file(path) as temporary:
        safe_table(pd.DataFrame(rows, columns=columns)).to_csv(temporary, index=False)
    for one in bad[:_SHOWN]:
        key = "extract_partly" if one.kept_frames else "skipped"
        frames = spoken().count(one.kept_frames, "frame")
        console.result(key, frames=frames, name=one.video, reason=one.detail)
    if len(bad) > _SHOWN:
        console.result("more", number=len(bad) - _SHOWN, file=path.name)
    return sum(not one.kept_frames for one in bad)


def _totals(stats: Sequence[Stats], rows: pd.DataFrame) -> dict[str, int]:
    """Prints and returns sums over all videos.

    Raises:
        RuntimeError: a face is missing in `rows`, or is neither kept nor has a reason for removal.
    """
    names = ("frames", "with_faces", "without_faces", "failed", "faces", "kept", "negatives")
    totals = {name: sum(getattr(one, name) for one in stats) for name in (*names, "cuts")}
    reasons = {name: int((rows["reason"] == name).sum()) for name in REASONS}
    if not totals["faces"] == len(rows) == totals["kept"] + sum(reasons.values()):
        raise RuntimeError(f"faces were lost: {totals}, {len(rows)} rows, {reasons}")
    words, damaged = spoken(), ""
    if totals["failed"]:
        damaged = words.text("result.extract_damaged", number=words.count(totals["failed"]))
    console.result(
        "extract",
        faces=words.count(totals["faces"], "face"),
        found=words.count(totals["with_faces"]),
        frames=words.count(totals["frames"], "frame"),
        videos=words.count(len(stats), "video"),
        damaged=damaged,
    )
    rejected = [
        words.text(f"rejected.{name}", number=words.count(number))
        for name, number in reasons.items()
        if number
    ]
    if rejected:
        faces = words.count(totals["kept"], "face")
        console.result("extract_kept", faces=faces, reasons=words.listing(rejected))
    return totals
