"""remove: deletes the data of one person, and the models that were trained on the person."""

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

_SHOWN = 10  # maximum number of files in a message
_BEGUN = "begun.json"  # contains a salted digest of the id whose removal began last


@stage(
    doing="doing.remove",
    grows=True,
    revisits=True,
)
def run(config: schemas.Remove, workdir: Path) -> dict[str, Any]:
    """Removes the person `config.remove`, and the models that were trained on the person.

    No file that this stage writes contains the removed id.

    Raises:
        UserError: no id is given, the id is a path, nobody has that id, `workdir` contains
            `config.work`, something has to be done by hand first, another process works in a
            workdir that would change, or files still contain the id.
    """
    person = config.remove
    # Deleted before anything can fail, because it contains the id.
    outputs.delete(workdir / "config.json")
    work = Path(config.work).absolute()
    if work.resolve().is_relative_to(workdir.resolve()):
        raise UserError(
            f"remove: the workdir {workdir} contains --config.work={work}; choose a --workdir "
            f"outside of it"
        )
    plain = unicodedata.normalize("NFKC", person)  # converts a fullwidth slash to a slash
    if plain in (".", "..") or {"/", "\\", "\0"} & set(plain):
        raise UserError(
            f"remove: --config.remove={person} is a path; give the id of a person, without folders"
        )
    photos = Path(config.photos).absolute() if config.photos else None
    begun = workdir / _BEGUN
    done = remove_person(person, photos, work, before=lambda: _note(begun, person))
    if done.nobody:
        if not _is_noted(begun, person):
            places = f"in {photos} or below {work}" if photos else f"below {work}"
            raise UserError(
                f"remove: there is no person with the id {person!r} {places}; check "
                "--config.remove, --config.photos and --config.work"
            )
        console.say("  an earlier run of this command has already deleted everything")
    console.detail(*(f"  deleted {file}" for file in done.files))
    for model in done.models:
        console.say(f"  deleted a model that was trained on the person: {model}")
    for folder in done.kept:
        console.say(
            "  kept predictions about other people by a model that was trained on the person: "
            f"{folder}"
        )
    console.say(
        f"  deleted {console.count(len(done.files), 'file')} and "
        f"{console.count(done.rows, 'row')} of tables"
    )
    if done.left:
        more = f" and {len(done.left) - _SHOWN} more" if len(done.left) > _SHOWN else ""
        raise UserError(
            f"remove: {len(done.left)} files still contain the person's id: "
            f"{', '.join(done.left[:_SHOWN])}{more}; check them, and delete them by hand"
        )
    return {
        "files_deleted": len(done.files),
        "rows_deleted": done.rows,
        "models_that_saw_the_person": done.models,
        "predictions_kept": done.kept,
    }


def _note(file: Path, person: str) -> None:
    """Records that the removal of the person has begun.

    Without this record, a repeated run would report an error if the first one was killed after its
    last deletion, since nobody has this id any more.
    """
    salt = secrets.token_hex(16)
    write_json(file, {"salt": salt, "digest": _digest(salt, person)})


def _is_noted(file: Path, person: str) -> bool:
    if not file.is_file():
        return False
    noted = read_json(file, salt=str, digest=str)
    return bool(noted["digest"] == _digest(noted["salt"], person))


def _digest(salt: str, person: str) -> str:
    return hashlib.scrypt(names.key(person).encode(), salt=salt.encode(), n=2**14, r=8, p=1).hex()
