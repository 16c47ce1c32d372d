"""Stage remove: deletes all that photographs, workdirs and records hold of one person."""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from pathlib import Path
from typing import Any

from fer_jax import console, outputs, schemas
from fer_jax.data import names
from fer_jax.data.removal import remove_person
from fer_jax.errors import UserError
from fer_jax.workdir import read_json, stage, write_json

_SHOWN = 10
_BEGUN = "begun.json"  # whose removal began last: a salted digest, since the id must not stay


@stage(inputs=lambda config: [config.photos], grows=True, revisits=True)
def run(config: schemas.Remove, workdir: Path) -> dict[str, Any]:
    """Removes `config.remove`, and the models that were trained on the person.

    The removed id is in none of the files that this stage writes: `config.json` would otherwise
    keep it.

    Raises:
        UserError: no id, nobody of that id, `workdir` holds `config.work`, something to be done by
            hand first, another process at work in a workdir that would change, or files that still
            have the id.
    """
    person = config.remove
    # Deleted before anything can fail: this folder must not keep the id either.
    outputs.delete(workdir / "config.json")
    if not person or not config.work:
        raise UserError("give --config.remove=ID and --config.work, the folder of all workdirs")
    work = Path(config.work).absolute()
    if work.resolve().is_relative_to(workdir.resolve()):
        raise UserError(
            f"remove: {workdir} holds the workdirs in --config.work; give another --workdir"
        )
    plain = unicodedata.normalize("NFKC", person)  # a fullwidth slash is one too
    if plain in (".", "..") or {"/", "\\", "\0"} & set(plain):
        raise UserError(f"remove: {person!r} is a path, and not the id of a person")
    photos = Path(config.photos).absolute() if config.photos else None
    begun = workdir / _BEGUN
    done = remove_person(person, photos, work, before=lambda: _note(begun, person))
    if done.nobody:
        if not _is_noted(begun, person):
            places = " or ".join(str(place) for place in (photos, f"below {work}") if place)
            raise UserError(f"remove: there is nobody called {person!r} in {places}")
        console.say("[remove] an earlier run of this command had deleted everything already")
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


def _note(file: Path, person: str) -> None:
    """Notes that the removal of a person begins, for a run that is killed after its last deletion:
    the same command could not tell it from an id that was never there."""
    salt = secrets.token_hex(16)
    write_json(file, {"salt": salt, "digest": _digest(salt, person)})


def _is_noted(file: Path, person: str) -> bool:
    if not file.is_file():
        return False
    noted = read_json(file, salt=str, digest=str)
    return bool(noted["digest"] == _digest(noted["salt"], person))


def _digest(salt: str, person: str) -> str:
    return hashlib.scrypt(names.key(person).encode(), salt=salt.encode(), n=2**14, r=8, p=1).hex()
