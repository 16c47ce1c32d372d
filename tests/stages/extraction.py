"""The config with which tests run the stage `extract`."""

from ml_collections import ConfigDict

from configs import extract


def config_for(folder, *, every_s: float = 0.5, **fields) -> ConfigDict:
    """The config of configs/extract.py for the videos in `folder`, with changed `fields`."""
    config = extract.get_config()
    config.update({"videos": str(folder), "every_s": every_s, **fields})
    return config
