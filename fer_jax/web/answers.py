"""The server's answers: the faces in a picture, or in the frames of a video, as JSON values."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from fer_jax.faces import images
from fer_jax.faces.images import ImageError
from fer_jax.faces.video import VideoError, stated_length_s
from fer_jax.following import follower
from fer_jax.reading import Picture, Reader, Reading, Video
from fer_jax.recogniser import Recogniser

Json = dict[str, Any]

_KINDS = "give a JPEG, PNG, WebP or TIFF picture, or an MP4, MOV or WebM video"
_MESSAGES = {
    "empty": f"The file is empty; {_KINDS}.",
    "not_a_picture": f"This is not a picture that can be read; {_KINDS}.",
    "not_a_video": f"This is neither a picture nor a video that can be read; {_KINDS}.",
    "is_a_picture": "This is a picture, not a video; send it as a picture.",
    "no_video_stream": "This file contains no moving pictures; give a video that has some.",
    "no_frames": "No frame of this video can be read; it may be damaged. Export it again.",
    "damaged": "The picture is damaged; save or export it again.",
    "failed": "This file could not be analysed; try another one.",
}


class RequestError(Exception):
    """The reason why a request gets no answer.

    Attributes:
        status: the HTTP status code.
        code: the kind of problem, which the page translates.
        message: what is wrong and what to do, in English.
        facts: the numbers in the message, by name, for its translation.
    """

    def __init__(self, status: int, code: str, message: str = "", **facts: int | float) -> None:
        super().__init__(message)
        self.status, self.code, self.facts = status, code, facts
        self.message = message or _MESSAGES[code]

    def as_json(self) -> Json:
        """The body of the HTTP response."""
        return {"error": {"code": self.code, "message": self.message, "facts": self.facts}}


def picture(recogniser: Recogniser, content: bytes) -> Json:
    """The faces in an encoded picture.

    Returns:
        "width" and "height" in pixels, and "faces".

    Raises:
        RequestError: the picture cannot be read or analysed.
    """
    try:
        image = images.decode_image(content)
    except ImageError as error:
        raise _refusal_of(error) from None
    reader = Reader(recogniser, [Picture("picture", image)])
    faces = [_face(reading) for frame in reader for reading in frame.readings(recogniser.labels)]
    if reader.skips.rows:
        raise RequestError(500, "failed")
    height, width = image.shape[:2]
    return {"width": width, "height": height, "faces": faces}


def video(
    recogniser: Recogniser, path: Path, *, every_s: float, batch: int, most_s: float
) -> Generator[Json, None, None]:
    """The faces in a video, frame by frame.

    Args:
        recogniser: finds and classifies the faces.
        path: the video.
        every_s: seconds between the frames that are read; 0: every frame.
        batch: frames that are analysed together.
        most_s: the maximum length of the video in seconds.

    Yields:
        First {"expected"}, the probable number of frames or None; then for each frame {"frame",
        "time_s", "width", "height", "faces"}; at the end {"frames", "faces", "damaged"}: two
        numbers, and whether some frames could not be read or analysed.

    Raises:
        RequestError: no frame can be read or analysed, or the video is longer than `most_s`, which
            may be found only after some frames.
    """
    source = Video("video", path, every_s)
    try:
        first = next(source.frames())
    except VideoError as error:
        raise _refusal_of(error) from None
    if (stated_length_s(path) or 0.0) > most_s:
        raise _too_long(most_s)
    yield {"expected": source.expected() or None}
    reader = Reader(recogniser, [source], batch=batch, follow=follower())
    frames = faces = 0
    for analysed in reader:
        if analysed.frame.time_s - first.time_s > most_s:
            raise _too_long(most_s)
        height, width = analysed.frame.image.shape[:2]
        found = [_face(reading) for reading in analysed.readings(recogniser.labels)]
        frames, faces = frames + 1, faces + len(found)
        yield {
            "frame": analysed.frame.index,
            "time_s": analysed.frame.time_s,
            "width": width,
            "height": height,
            "faces": found,
        }
    if not frames:
        raise RequestError(500, "failed")
    yield {"frames": frames, "faces": faces, "damaged": bool(reader.skips.rows)}


def _face(reading: Reading) -> Json:
    smoothed = {} if reading.smoothed is None else {"smoothed": dict(reading.smoothed)}
    return {
        "person": reading.person,
        "box": list(reading.box),
        "score": reading.detector_score,
        "landmarks": [list(point) for point in reading.landmarks],
        "emotion": reading.emotion,
        "probabilities": dict(reading.probabilities),
        **smoothed,
    }


def _refusal_of(error: ImageError | VideoError) -> RequestError:
    status = 413 if error.reason == "too_large" else 415
    if error.reason in _MESSAGES:
        return RequestError(status, error.reason)
    text = error.detail if isinstance(error, VideoError) else str(error)
    return RequestError(status, error.reason, f"This file cannot be read: {text}.")


def _too_long(most_s: float) -> RequestError:
    minutes = float(f"{most_s / 60:.2g}")
    return RequestError(
        413,
        "too_long",
        f"The video is longer than {minutes:g} minutes; cut it, or start the page with a larger "
        "--max_video_s.",
        minutes=minutes,
    )
