"""Draws generated people: clips without labels, labelled photographs of others, and newcomers.

    python launch.py --config=configs/render.py --workdir=work/people

Writes `videos/*.mp4` (15 people x 4 emotions x 2 clips of 2 s, and 8 scenes without people),
`photographs/<subject>/<emotion>/*.jpg` (15 other people x 4 emotions x 5), `newcomers/` (4 further
people, on whom the final model is tried) and `sheet.png`, a contact sheet.
Cost: about 1,900 pictures, 28 ms each on one core: half a minute on two cores, 15 MB.
The same config draws the same pictures on every machine with the same OpenCV and NumPy versions.
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the stage `render`; `arg` is unused."""
    del arg
    config = ConfigDict()
    config.stage = "render"
    config.clips = {
        "first_person": 101,  # number of the first person; clips and photographs share no people
        "people": 15,  # number of people
        "per_emotion": 2,  # clips of each person and emotion
        "frames": 12,  # frames of each clip
        "fps": 6,  # frames per second
        "scenes": 8,  # number of clips without people
    }
    config.photographs = {
        "first_person": 1,  # number of the first person
        "people": 15,  # number of people
        "per_emotion": 5,  # photographs of each person and emotion
    }
    # Other people, on whom the final model is tried: the number of the first one, and how many.
    config.newcomers = {"first_person": 201, "people": 4}
    config.size = (240, 320)  # height and width of clips and photographs in pixels, even numbers
    config.workers = 0  # processes that draw; 0: one per core
    return config.lock()
