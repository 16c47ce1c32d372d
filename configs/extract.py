"""Finds, aligns and crops the faces in videos.

    python launch.py --config=configs/extract.py --config.videos=VIDEOS --workdir=WORK/extract

`videos` is a folder, searched with all its subfolders, or one file. Frames are sampled by their
presentation times; MTCNN finds the faces (the weights of the package mtcnn 1.0.0, in JAX).

Writes shards/<video>/ (crops as JPEG, and counts), manifest.parquet (one row per face),
negatives.parquet (crops without a face: background, and candidates below the detector's threshold),
skipped.csv (videos that could not be read, or not completely, with the reason), quality.png
(histograms) and kept.png (a sheet of up to 96 kept faces, with video and time). If it is run again
after videos were added, it extracts only the new ones.

`limits` says which crops are kept; the defaults keep all. Others stay in the manifest with the
status "removed" and a reason. `workers` is the number of videos that are extracted at once, each in
its own process; `runner` uses a runner of Apache Beam (docs/faces.md).

Cost: detection dominates: 44 frames per second of 320x240, 6.4 of clips up to 1280 pixels wide, on
2 busy CPU cores; about 40 ms of processor time per frame of 640x360.
Memory does not depend on a video's length; with the number of videos, only their tables grow.
Expect: frames = with_faces + without_faces + failed; on generated people a face in 98 % of frames.
"""

from ml_collections import ConfigDict

from configs import argument


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: the size of network that the crops are for, "small" or "full"."""
    size, _ = argument.parse(arg)
    small = size != "full"
    config = ConfigDict()
    config.stage = "extract"

    config.videos = ""  # a folder of videos, or one
    config.every_s = 0.5  # seconds between the sampled frames; 0.0 for every frame

    config.detector = {
        "min_face": 40,  # pixels; smaller faces are not looked for
        "factor": 0.709,
        "thresholds": (0.6, 0.7, 0.8),
        "max_faces": 0,  # per frame, the best ones; 0 for all
    }
    # Pixels, and a share of the template's side. A model works only on the kind of crops on which
    # it was trained.
    config.crop = {"size": 80 if small else 320, "margin": 0.0 if small else 0.1}
    # Background crops per frame; the lowest score of a rejected candidate that is kept as a hard
    # negative.
    config.negatives = {"per_frame": 1, "floor": 0.3}

    config.limits = {
        "min_size": 0.0,  # pixels, the shorter side of a face's box
        "min_sharpness": 0.0,  # variance of the Laplacian
        "min_brightness": 0.0,  # mean luma, 0 to 255
        "max_brightness": 255.0,
        "max_yaw": 90.0,  # degrees to either side
        "min_hash_distance": 0,  # bits of 64; crops of a track with fewer are duplicates
        "per_track": 0,  # crops per track at most, evenly spread; 0 for all
    }

    config.batch = 8  # frames that are detected together
    config.workers = 0  # processes, one video each; 0: this process, which also uses all cores
    config.runner = ""  # of Apache Beam, such as "DirectRunner"; "": this machine, without Beam
    config.runner_options = ""  # further options of the runner, as one string
    config.seed = 0  # of the places of background crops
    return config.lock()
