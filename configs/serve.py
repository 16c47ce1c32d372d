r"""Serves a web page on this computer that reads emotions in pictures, videos and camera images.

    python launch.py --config=configs/serve.py --config.model=starter
    fer-jax serve [MODEL]

`--config.model` is a model directory, a workdir of `train` or `crossval` that contains one, or
"starter". The command prints the address of the page, http://127.0.0.1:8765/; Ctrl-C ends it. The
answers are computed as by configs/predict.py. No picture or video is stored, and only this computer
can reach the page (docs/web_page.md).

Needs the packages starlette and uvicorn; `make setup` installs them, and so does
`pip install '.[serve]'` in the checkout.
Cost: on two cores the page answers 3 s after the start, or 4 s if nothing is compiled yet. A
picture of 640 x 480 pixels then takes 0.06 s, and one of 1920 x 1080 pixels 0.15 s.
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the stage `serve`; `arg` is unused."""
    del arg
    config = ConfigDict()
    config.stage = "serve"

    config.model = "starter"  # a model directory, a workdir that contains one, or "starter"
    config.port = 8765  # TCP port of the page; 0: any free port
    config.every_s = 0.2  # seconds of video between the analysed frames; 0.0: every frame
    # Longest side in pixels to which pictures are reduced for detection. 0: the value with which
    # the model was measured.
    config.max_side = 0
    config.batch = 8  # maximum number of frames that are analysed together
    config.max_upload_mb = 200  # maximum size of a picture or video in megabytes (1e6 bytes)
    config.max_video_s = 600.0  # maximum length of a video in seconds
    return config.lock()
