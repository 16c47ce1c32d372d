"""Finds, aligns and crops the faces in videos.

    python launch.py --config=configs/extract.py --config.videos=VIDEOS --workdir=WORK/extract

`videos` is a folder, searched with all its subfolders, or one file. Frames are sampled by their
presentation times; MTCNN finds the faces (in JAX, with the weights of the package mtcnn 1.0.0).

Writes shards/<video>/ (crops as JPEG, and counts), manifest.parquet (one row per face),
negatives.parquet (crops without a face: background, and candidates below the detector's threshold),
skipped.csv (videos that could not be read completely, with the reason), quality.png
(histograms) and kept.png (a sheet of up to 96 kept faces, with video and time). If the same command
is run again after videos were added, it extracts only the new ones.

`limits` says which crops are kept; the defaults keep all. Removed crops stay in the manifest, with
the status "removed" and a reason. `workers` is the number of videos that are extracted at once,
each in its own process; `runner` uses a runner of Apache Beam (docs/faces.md).

Cost: on 2 idle CPU cores, 105 searched frames per second of videos of 320x240 pixels, or 35 of
clips of 480x480 to 720x1364, including the start of Python and the decoding of all other frames.
Memory: frames are processed in small batches; only the tables of faces grow with the videos.
Expect: frames = with_faces + without_faces + failed; on generated people, a face in 98 % of frames.
"""

from ml_collections import ConfigDict

from configs import argument


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of `extract`; `arg` names the network's size, which sets the crops' size."""
    size, _ = argument.parse(arg)
    small = size != "full"
    config = ConfigDict()
    config.stage = "extract"

    config.videos = ""  # a folder of videos, or one video
    config.every_s = 0.5  # seconds between sampled frames; 0.0: every frame

    config.detector = {
        "min_face": 40,  # side in pixels of the smallest faces to search for
        "factor": 0.709,
        "thresholds": (0.6, 0.7, 0.8),
        "max_faces": 0,  # maximum number of faces kept per frame, by highest score; 0: all
    }
    # Side of a crop in pixels, and margin around the face as a fraction of the template's side. A
    # model works only on the kind of crops on which it was trained.
    config.crop = {"size": 80 if small else 320, "margin": 0.0 if small else 0.1}
    # Crops without a face: the maximum number of background crops per frame, and the detector score
    # above which a rejected candidate is stored as a hard negative.
    config.negatives = {"per_frame": 1, "floor": 0.3}

    config.limits = {
        "min_size": 0.0,  # minimum of the shorter side of a face, in pixels
        "min_sharpness": 0.0,  # minimum variance of the Laplacian; blurred crops have low values
        "min_brightness": 0.0,  # minimum mean luma, 0 to 255
        "max_brightness": 255.0,  # maximum mean luma, 0 to 255
        "max_yaw": 90.0,  # maximum rotation of the head to either side, in degrees
        "min_hash_distance": 0,  # crops of a track differ in at least this many of 64 hash bits
        "per_track": 0,  # maximum number of crops per track, evenly spread over it; 0: all
    }

    config.batch = 8  # frames that are searched together
    config.workers = 0  # processes that read one video each; 0: this process (uses all cores too)
    config.runner = ""  # a runner of Apache Beam, such as "DirectRunner"; "": without Beam
    config.runner_options = ""  # further options of the Beam runner, as one string
    config.seed = 0  # seed of the random positions of background crops
    return config.lock()
