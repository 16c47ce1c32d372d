"""serve: a local web page that shows the emotions of faces in pictures, in videos or on camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fer_jax import abstaining, console, schemas
from fer_jax.errors import UserError
from fer_jax.models import starter
from fer_jax.people import photograph
from fer_jax.recogniser import Recogniser

_NEEDED = ("starlette", "uvicorn", "anyio")
_CAMERA = (480, 640)  # height and width of the pictures that the page takes with a camera


def run(config: schemas.Serve | ConfigDict, workdir: Path | None = None) -> dict[str, Any]:
    """Serves the page until Ctrl-C. No results are written, so `workdir` is ignored.

    Raises:
        UserError: the config is invalid, a package of the server is missing, there is no model, the
            model cannot answer for a single face, or the port cannot be used.
    """
    del workdir
    checked = schemas.validated(config) if isinstance(config, ConfigDict) else config
    assert isinstance(checked, schemas.Serve)
    try:
        from fer_jax.web import app, server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        raise UserError(
            f"serve: the package {error.name} is missing; run in the checkout: "
            "pip install '.[serve]'"
        ) from error
    recogniser = Recogniser.load(checked.model, max_side=checked.max_side)
    if recogniser.reference:
        raise UserError(
            f"serve: the model {checked.model} is person-relative, so it compares the faces of "
            "a person with each other, but the page classifies each face alone; set another "
            "--config.model"
        )
    limits = app.Limits(checked.max_upload_mb * app.MEGABYTE, checked.max_video_s)
    facts = {"model": _name(checked.model), "measured": _measured(checked.model)}
    application = app.make_app(
        recogniser, facts, limits, every_s=checked.every_s, batch=checked.batch
    )
    with server.listen(checked.port) as listener:
        console.say("[serve] loading the model")
        recogniser([photograph(1, "happy", 0, _CAMERA)])  # compiles what the first answer needs
        console.say(f"[serve] open {server.address(listener)} (Ctrl-C stops the server)")
        server.serve(application, listener)
    console.say("[serve] stopped")
    return {}


def _name(model: str) -> str:
    return model if model == starter.NAME else Path(model).resolve().name


def _measured(model: str) -> dict[str, Any] | None:
    """The measured accuracy by confidence; None if the model has no record of it."""
    table = abstaining.read(model)
    return table.model_dump() if table else None
