"""Faces out of videos: sampled frames, detected, aligned and cut out, one shard a video.

    shards/<video>/                 crops, rows and counts of one video
    manifest.parquet                the faces of all videos
    negatives.parquet               crops that show no face, for the verifier
    skipped.csv                     videos that gave nothing, or not all: video, reason, ...
    quality.png                     histograms of what was measured on the faces

Killed and run again it goes on with the videos that have no shard; videos that were added later
are extracted alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from fer_jax import console, records, schemas
from fer_jax.errors import UserError
from fer_jax.faces import overview, runners, shards
from fer_jax.faces.selection import REASONS
from fer_jax.faces.shards import Job, Stats
from fer_jax.faces.video import list_videos
from fer_jax.figures import save_figure
from fer_jax.records import FacePipeline, Search
from fer_jax.spreadsheets import safe_table
from fer_jax.training import model_directory
from fer_jax.workdir import atomic_file, stage


@stage(inputs=lambda config: [config.videos], grows=True)
def run(config: schemas.Extract, workdir: Path) -> dict[str, Any]:
    """Extracts the faces of every video below `config.videos`.

    Raises:
        UserError: no folder is given, no video is in it, or none of the videos can be read.
    """
    if not config.videos:
        raise UserError("extract: give the folder of videos by --config.videos=DIR")
    root, jobs = Path(config.videos), []
    for path in list_videos(root):
        video = shards.video_id(path, root)
        jobs.append(Job(path, video, workdir / "shards" / shards.shard_name(video), config))
    stats = {job.video: found for job in jobs if (found := shards.finished(job))}
    missing = [job for job in jobs if job.video not in stats]
    if stats:
        console.say(f"[extract] {len(stats)} of {len(jobs)} videos are extracted already")
    started = time.time()
    new, first_frame_at = _extract_all(missing, config)
    elapsed = time.time() - started
    stats |= new
    ordered = [stats[job.video] for job in jobs]
    skipped = _report_bad_videos(ordered, workdir / "skipped.csv")
    if skipped == len(jobs):
        raise UserError(
            f"extract: none of the {len(jobs)} videos in {config.videos} gave a frame; "
            f"the reasons are in {workdir / 'skipped.csv'}"
        )
    cut = FacePipeline(detector=config.detector, search=Search(), crop=config.crop)
    records.write(workdir / model_directory.FACES, cut)
    faces = shards.merge([job.shard for job in jobs], workdir)
    histograms = overview.histograms(faces, config.limits)
    save_figure(histograms, workdir / "quality.png", dpi=110)
    looked_at = sum(one.kept_frames for one in new.values())
    return {
        "videos": len(jobs),
        "skipped": skipped,
        "damaged": sum(bool(one.error) for one in ordered) - skipped,
        **_totals(ordered, faces),
        "frames_per_s": round(looked_at / elapsed, 1) if looked_at else 0.0,
        "wall_s": round(time.time() - started, 2),
        "time_to_first_frame_s": round(first_frame_at - started, 2) if looked_at else 0.0,
    }


def _extract_all(jobs: Sequence[Job], config: schemas.Extract) -> tuple[dict[str, Stats], float]:
    """Extracts the videos; the counts of each, and when the first frame was done."""
    stats: dict[str, Stats] = {}
    first: list[float] = []
    with tqdm(unit="frame", desc="extract", disable=not jobs) as bar:

        def progress(frames: int) -> None:
            first[:] = first or [time.time()]
            bar.update(frames)

        running = runners.run(jobs, config, progress)
        for number, one in enumerate(running, 1):
            stats[one.video] = one
            bar.set_postfix_str(f"{number}/{len(jobs)} videos")
    return stats, first[0] if first else 0.0


def _report_bad_videos(stats: Sequence[Stats], path: Path) -> int:
    """Writes and prints which videos gave nothing or not all; returns how many gave nothing."""
    bad = [one for one in stats if one.error]
    columns = ["video", "reason", "detail", "frames_kept", "frames_failed"]
    rows = [(one.video, one.error, one.detail, one.kept_frames, one.failed) for one in bad]
    with atomic_file(path) as temporary:
        safe_table(pd.DataFrame(rows, columns=columns)).to_csv(temporary, index=False)
    for one in bad:
        verdict = f"{one.kept_frames} frames kept" if one.kept_frames else "skipped"
        console.say(f"[extract] {one.video}: {one.detail}; {verdict}")
    return sum(not one.kept_frames for one in bad)


def _totals(stats: Sequence[Stats], rows: pd.DataFrame) -> dict[str, int]:
    """The sums over all videos, whose frames were checked one by one; no face may be lost."""
    names = ("frames", "with_faces", "without_faces", "failed", "faces", "kept", "negatives")
    totals = {name: sum(getattr(one, name) for one in stats) for name in (*names, "cuts")}
    reasons = {name: int((rows["reason"] == name).sum()) for name in REASONS}
    if not totals["faces"] == len(rows) == totals["kept"] + sum(reasons.values()):
        raise RuntimeError(f"faces were lost on the way: {totals}, {len(rows)} rows, {reasons}")
    console.say(
        f"[extract] {totals['frames']} frames sampled = {totals['with_faces']} with faces "
        f"+ {totals['without_faces']} without + {totals['failed']} failed"
    )
    if given := {name: count for name, count in reasons.items() if count}:
        parts = " ".join(f"+ {count} {name}" for name, count in given.items())
        console.say(f"[extract] {totals['faces']} faces = {totals['kept']} kept {parts}")
    return totals
