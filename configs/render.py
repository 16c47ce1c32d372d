"""Draws generated people: clips without labels, labelled photographs of others, and newcomers.

    python launch.py --config=configs/render.py --workdir=work/people

Writes `videos/*.mp4` (15 people x 4 emotions x 2 clips of 2 s, and 8 scenes without people),
`photographs/<subject>/<emotion>/*.jpg` (15 other people x 4 emotions x 5), `newcomers/` (4 further
people, to try the finished model on) and `sheet.png`, a contact sheet.
Cost: about 1,900 pictures, 28 ms each on one core: half a minute on two cores, 15 MB.
The same config gives the same pictures on every machine with the same OpenCV and numpy.
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """People, clips and photographs of the demonstration."""
    del arg
    config = ConfigDict()
    config.stage = "render"
    config.clips = {
        "first_person": 101,  # people in clips and in photographs must differ
        "people": 15,
        "per_emotion": 2,
        "frames": 12,
        "fps": 6,
        "scenes": 8,  # clips without people
    }
    config.photographs = {"first_person": 1, "people": 15, "per_emotion": 5}
    config.newcomers = {"first_person": 201, "people": 4}  # to try the finished model on
    config.size = (240, 320)  # height, width of both; even numbers
    config.workers = 0  # processes; 0: one per core
    return config.lock()
