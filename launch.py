"""The one door: runs the stage that a config names.

python launch.py --config=configs/pipeline.py --config.videos=DIR --config.photos=DIR --workdir=DIR

Any field of the config can be given as a flag: --config.steps.pretrain.epochs=100.
Each config's docstring says what it does, what it costs and what to expect.
"""

from __future__ import annotations

import difflib
import importlib
import re
import runpy
import sys
from typing import Any

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from fer_jax.errors import UserError

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The config file, e.g. configs/pipeline.py.", lock_config=True
)
_HELP = {"-h", "-help", "--help", "-helpshort", "--helpshort", "-helpfull", "--helpfull"}
_WORKDIR = flags.DEFINE_string("workdir", None, "The folder that the stage reads and writes.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0 of several, or auto (docs/many_hosts.md)."
)
_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes train together.")
_PROCESS = flags.DEFINE_integer("process_id", None, "Which of them this one is, from 0.")


def main(argv: list[str]) -> None:
    """Runs the stage; what the user can mend is one line on standard error and exit code 2."""
    try:
        if len(argv) > 1:
            raise UserError(f"unexpected argument {argv[1]!r}; see --help")
        if _CONFIG.value is None or not _WORKDIR.value:
            raise UserError("give --config=configs/NAME.py and --workdir=DIR; see --help")
        from fer_jax import backend  # imports jax: after the flags, so that --help is quick

        backend.prepare(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        stage = importlib.import_module(f"fer_jax.stages.{_CONFIG.value.stage}")
        with backend.an_error_ends_all():
            stage.run(_CONFIG.value, _WORKDIR.value)
    except UserError as error:
        _stop(str(error), error.exit_code)
    except KeyboardInterrupt:
        _stop("interrupted; the same command goes on from here")


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        if _HELP & set(argv):
            _describe_config(argv)
        rest = flags.FLAGS(argv)
        _ = _CONFIG.value and _CONFIG.value.stage  # a bad file fails here, not later
        return rest
    except flags.UnrecognizedFlagError as error:
        _stop(f"{error}; --helpfull lists the flags")
    except (AttributeError, KeyError) as error:
        _stop(_unknown_field(argv, str(error)))
    except OSError as error:
        _stop(f"cannot load the file that --config names: {error}")
    except (flags.Error, TypeError, ValueError, SyntaxError, UserError) as error:
        _stop(str(_user_error(error) or error))
    raise AssertionError("unreachable")


def _user_error(error: BaseException | None) -> UserError | None:
    """What a config itself said, wherever absl has wrapped it."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def _unknown_field(argv: list[str], error: str) -> str:
    """Names the override that the config lacks, and the fields that are nearest to it."""
    _, config = _load_config(argv)
    known = list(_fields(config)) if config is not None else []
    for argument in argv:
        match = re.match(r"""--config\.((?:[\w.]|\[["'][\w.]+["']\])+)""", argument)
        field = match[1].replace("'", '"') if match else ""
        if field and field not in known:
            near = difflib.get_close_matches(field, known, n=2, cutoff=0.75)
            near = near or _same_ending(field, known)
            near = near or sorted({name.split(".")[0] for name in known})
            hints = ", ".join(f"--config.{name}" for name in near)
            return f"the config has no field --config.{field}; the nearest are {hints}"
    return f"--config: {error}"


def _same_ending(field: str, known: list[str]) -> list[str]:
    """The fields whose last name is nearest to that of `field`: pretrain.epochs for epoch."""
    last = {name: name.rsplit(".", 1)[-1] for name in known}
    near = difflib.get_close_matches(field.rsplit(".", 1)[-1], set(last.values()), n=1)
    return [name for name in known if last[name] in near][:5]


def _describe_config(argv: list[str]) -> None:
    """Prints what the config's file says of itself, and its fields, which absl knows nothing of."""
    text, config = _load_config(argv)
    if config is None:
        return
    print(text)
    for name, value in _fields(config).items():
        if not isinstance(value, ConfigDict):
            print(f"  --config.{name}={value}")


def _load_config(argv: list[str]) -> tuple[str, ConfigDict | None]:
    """The docstring of the config file that `argv` names, and its config."""
    for argument in argv:
        match = re.match(r"--config=([^:]+)(?::(.*))?$", argument)
        if match:
            module = runpy.run_path(match[1])
            get_config = module["get_config"]
            return module["__doc__"], get_config() if match[2] is None else get_config(match[2])
    return "", None


def _fields(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Every field by the name that its flag has; a key with dots stands in brackets."""
    fields: dict[str, Any] = {}
    for key, value in config.items():
        name = f'{prefix}["{key}"]' if "." in key else f"{prefix}.{key}".lstrip(".")
        fields[name] = value
        if isinstance(value, ConfigDict):
            fields |= _fields(value, name)
    return fields


def _stop(message: str, code: int = 2) -> None:
    lines = (line.strip() for line in message.splitlines())
    print("error: " + "; ".join(line for line in lines if line), file=sys.stderr, flush=True)
    sys.exit(code)


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
