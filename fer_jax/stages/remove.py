"""Stage remove: deletes all that photographs, workdirs and records hold of one person."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fer_jax import console, outputs
from fer_jax.data.removal import remove_person
from fer_jax.errors import UserError
from fer_jax.workdir import stage

_SHOWN = 10


@stage(inputs=lambda config: [], revisits=True)
def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Removes `config.remove`, and the models that were trained on the person.

    The removed id is in none of the files that this stage writes: `config.json` would otherwise
    keep it.

    Raises:
        UserError: no id, nobody of that id, something to be done by hand first, another process
            at work in a workdir that would change, or files that still have the id.
    """
    person = config.remove
    # Deleted before anything can fail: this folder must not keep the id either.
    outputs.delete(workdir / "config.json")
    if not person or not config.work:
        raise UserError("give --config.remove=ID and --config.work, the folder of all workdirs")
    plain = unicodedata.normalize("NFKC", person)  # a fullwidth slash is one too
    if plain in (".", "..") or {"/", "\\", "\0"} & set(plain):
        raise UserError(f"remove: {person!r} is a path, and not the id of a person")
    photos = Path(config.photos).absolute() if config.photos else None
    done = remove_person(person, photos, Path(config.work).absolute())
    for file in done.files:
        console.say(f"[remove] deleted {file}")
    for model in done.models:
        console.say(f"[remove] deleted, since it was trained on the person: {model}")
    for folder in done.kept:
        console.say(f"[remove] kept, although such a model made these predictions: {folder}")
    if done.left:
        more = f" and {len(done.left) - _SHOWN} more" if len(done.left) > _SHOWN else ""
        raise UserError(
            f"remove: {len(done.left)} files still name the person: "
            f"{', '.join(done.left[:_SHOWN])}{more}; look at them, and delete them by hand"
        )
    return {
        "files_deleted": len(done.files),
        "rows_deleted": done.rows,
        "models_that_saw_the_person": done.models,
        "predictions_kept": done.kept,
    }
