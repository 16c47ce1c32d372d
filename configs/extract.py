"""Finds, aligns and cuts out the faces of videos.

    python launch.py --config=configs/extract.py --config.videos=VIDEOS --workdir=WORK/extract

`videos` is a folder, searched through all its subfolders, or one file. Frames are sampled by
their true times; faces are found by MTCNN (the weights of the package mtcnn 1.0.0, in JAX).

Writes shards/<video>/ (crops as JPEG, and what was counted), manifest.parquet (a row a face),
negatives.parquet (crops without a face: background, and what the detector doubted) and
skipped.csv (videos that could not be read, or not to their end, with the reason). Run again
after adding videos, it extracts the new ones alone.

Cost: detection dominates: about 30 frames a second of 640x360 on 2 CPU cores, 100 of 320x240;
memory does not grow with a video's length, nor with the number of videos beyond their tables.
Expect: frames = with_faces + without_faces + failed; on generated people a face in 98 % of frames.
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the stage `extract`; `arg` is unused."""
    del arg
    config = ConfigDict()
    config.stage = "extract"

    config.videos = ""  # a folder of videos, or one
    config.every_s = 0.5  # seconds between the frames that are looked at; 0.0 for every frame

    config.detector = ConfigDict({"min_face": 20, "factor": 0.709, "thresholds": (0.6, 0.7, 0.8)})
    config.crop = ConfigDict({"size": 96, "margin": 0.2})  # pixels; part of the template's side
    # Background crops a frame; the least score of a doubted candidate that is kept as no face.
    config.negatives = ConfigDict({"per_frame": 1, "floor": 0.3})

    config.batch = 8  # frames that are detected together
    config.workers = 0  # processes, a video each; 0 works in this one, which uses all cores too
    config.seed = 0  # of the places of background crops
    return config.lock()
