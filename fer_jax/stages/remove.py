"""Stage remove: a person who withdraws is taken out of photographs, crops, records and reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fer_jax import console
from fer_jax.data.removal import remove_person
from fer_jax.errors import UserError
from fer_jax.workdir import stage


@stage(inputs=lambda config: [], revisits=True)
def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Removes `config.remove`, and names the models that saw the person.

    The removed id stands in none of the files that this stage writes, as `config.json` would
    otherwise keep what was to be forgotten.

    Raises:
        UserError: no id, nobody of that id, or files that still hold it.
    """
    person = config.remove
    # Said before anything is done: this very folder must not keep the id either.
    (workdir / "config.json").unlink(missing_ok=True)
    if not person or not config.work:
        raise UserError("give --config.remove=ID and --config.work, the folder of all workdirs")
    if person == ".." or Path(person).name != person:  # ".", "a/b": other people's folders
        raise UserError(f"remove: {person!r} is no id of a person")
    photos = Path(config.photos).absolute() if config.photos else None
    done = remove_person(person, photos, Path(config.work).absolute())
    for file in done.files:
        console.say(f"[remove] deleted {file}")
    for model in done.models:
        console.say(f"[remove] saw this person, and cannot forget: {model}")
    if done.left:
        raise UserError(
            f"remove: {len(done.left)} files still name the person: {', '.join(done.left[:10])}; "
            "look at them, and delete them by hand"
        )
    return {
        "files_deleted": len(done.files),
        "rows_deleted": done.rows,
        "models_that_saw_the_person": done.models,
    }
