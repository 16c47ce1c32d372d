"""The command line: `launch.py` of a checkout, and `fer-jax` of an installed package.

python launch.py --config=configs/pipeline.py --config.videos=DIR --config.photos=DIR --workdir=DIR
fer-jax pipeline --videos=DIR --photos=DIR --workdir=DIR

Both run the stage that a config names; --config=WORKDIR/config.json is the config of an earlier
run. Any field of the config can be set by a flag, such as --config.steps.pretrain.epochs=100, which
`fer-jax` also accepts as --steps.pretrain.epochs=100.
The docstring of each config describes the command, its cost and the expected result.
Exit codes: 0 for success, 2 for an error that the user can fix, 1 for a failed check and any other
error, 130 for Ctrl-C, 143 for SIGTERM. --verbosity=0 also shows the messages of libraries;
--verbosity=1 shows these, the summary of each stage, and tracebacks.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import app, flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import config_path

from fer_jax import config_files, console, failures, inputs, interrupts, schemas, stages
from fer_jax.data import names
from fer_jax.errors import UserError
from fer_jax.plugins import did_you_mean

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "The config file, e.g. configs/pipeline.py, or the config.json of an earlier run.",
    lock_config=True,
)
# FILE sets the first of these fields that the config has.
_FILE_FIELDS = {"input": "one file or folder", "model": "one model", "run": "one workdir"}
_SHORT_HELP = {"-h", "-help", "--help", "-helpshort", "--helpshort"}
_HELP = {*_SHORT_HELP, "-helpfull", "--helpfull"}
_WORKDIR = flags.DEFINE_string("workdir", None, "The folder for the results of the stage.")
_FREE = flags.DEFINE_bool(
    "free_workdir", False, "Use DIR-2, DIR-3, ... if the workdir DIR belongs to another config."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, 'HOST:PORT of process 0, or "auto" (docs/many_hosts.md).'
)
_PROCESSES = flags.DEFINE_integer("num_processes", None, "The number of processes of this run.")
_PROCESS = flags.DEFINE_integer("process_id", None, "The number of this process, from 0.")


def launch() -> None:
    """Runs the command line of `launch.py`, which is in `sys.argv`."""
    app.run(main, flags_parser=parse_flags)


def installed() -> None:
    """Runs the command line of `fer-jax`: NAME [FILE] and flags."""
    interrupts.exit_at_once()
    console.reword(_as_fer_jax)
    folder = config_files.folder()
    sys.modules.setdefault("configs", config_files.package())
    try:
        sys.argv[1:] = launch_arguments(sys.argv[1:], folder)
    except UserError as error:
        sys.exit(failures.report(error))
    except BrokenPipeError:  # as in `fer-jax predict --help | head`
        console.discard(sys.stdout)
        sys.exit(0)
    launch()


def launch_arguments(arguments: Sequence[str], configs: Path) -> list[str]:
    """The arguments of `launch.py` with the same meaning as those of `fer-jax`.

    NAME is the config file of that name in `configs`, FILE is the value of the first of the fields
    `input`, `model` and `run` that the config has, and --FIELD=VALUE or --FIELD VALUE means
    --config.FIELD=VALUE. The default workdir is work/NAME or, if there is a FILE, work/NAME/STEM,
    where STEM is the file's name without suffix. If that folder contains the results of another
    file, a digest is added to STEM; if it contains results with other settings, a number is added.
    With --config instead of NAME, arguments stay as they are. With --help after NAME, the fields of
    NAME are shown; with --help alone, or without arguments, all commands are listed. In both cases
    the program then ends.

    Raises:
        UserError: NAME is missing, the config or a flag does not exist, the config cannot be
            loaded, there is more than one FILE, or the config has no field for a FILE.
    """
    if not arguments or (len(arguments) == 1 and arguments[0] in _HELP):
        _list_configs(configs)
        sys.exit(0)
    if arguments[0].startswith("-"):
        if any(word.startswith(("--config", "-config")) or word in _HELP for word in arguments):
            return list(arguments)
        raise UserError(
            "the first argument must name a command, as in `fer-jax predict`; `fer-jax` alone "
            "lists the commands"
        )
    path = config_files.named(arguments[0], configs, "command")
    name = arguments[0].partition(":")[0]
    text, config = _load_config(["fer-jax", f"--config={path}"])
    if _SHORT_HELP & set(arguments):
        _describe(_as_fer_jax(text), config)
        sys.exit(0)
    translated, files = [f"--config={path}"], []
    rest = iter(arguments[1:])
    for word in rest:
        if not word.startswith("-"):
            files.append(word)
        else:
            translated.append(_full_flag(word, config, rest))
    field = next((field for field in _FILE_FIELDS if field in config), "")
    if len(files) > 1 or (files and not field):
        raise UserError(
            f"unexpected argument {files[-1]!r}; `fer-jax {name}` takes "
            f"{_FILE_FIELDS.get(field, 'flags only')}; see --help"
        )
    translated += [f"--config.{field}={Path(file)}" for file in files]
    named = any(word.startswith("--workdir=") or word in _HELP for word in translated)
    if _writes(config) and not named:
        workdir = Path("work", name)
        workdir = _own_workdir(workdir, field, files[0]) if files else workdir
        translated += [*["--free_workdir"] * bool(files), f"--workdir={workdir}"]
    return translated


def _own_workdir(folder: Path, field: str, file: str) -> Path:
    """The workdir below `folder` for `file`, the value of `field`.

    Its name is the stem of the file. A digest of the file's path is added if another file has
    already used that name, or if the folder with the digest exists.
    """
    path = Path(file).resolve()
    plain = folder / path.stem
    distinct = folder / f"{path.stem}-{names.digest(str(path))[:8]}"
    try:
        used = Path(json.loads((plain / "config.json").read_text("utf-8"))[field]).resolve()
    except (OSError, ValueError, KeyError, TypeError):  # no valid config is saved there
        used = path
    return distinct if distinct.exists() or used != path else plain


def _full_flag(word: str, config: ConfigDict, following: Iterator[str]) -> str:
    """`word` as --FLAG=VALUE, with `config.` before the name of a field.

    If `word` has no value, the next word of `following` is the value; a boolean flag gets the value
    True. For a boolean field, --noFIELD means False. Flags for help are returned unchanged.

    Raises:
        UserError: there is no such field or flag.
    """
    name, equals, value = word.lstrip("-").partition("=")
    field, fields = name.removeprefix("config.").replace("'", '"'), config_files.fields(config)
    if field in fields:
        name, boolean = f"config.{field}", isinstance(fields[field], bool)
    elif isinstance(fields.get(field.removeprefix("no")), bool):
        return f"--config.{field.removeprefix('no')}=False"
    elif word in _HELP:
        return word
    elif name in flags.FLAGS:
        boolean = flags.FLAGS[name].boolean
    else:
        raise UserError(config_files.unknown_field(field, list(fields), "--"))
    if boolean:
        return f"--{name}={value if equals else True}"
    return f"--{name}={value if equals else next(following, '')}"


def _list_configs(folder: Path) -> None:
    console.say("fer-jax NAME [FILE] [--FIELD=VALUE ...] [--workdir=DIR]", "")
    summaries = config_files.summaries(folder)
    width = max(map(len, summaries))
    console.say(*(f"  {name:{width}}  {text}" for name, text in summaries.items()))
    console.say("", "fer-jax NAME --help describes a command and its fields.")


def main(argv: list[str]) -> None:
    """Runs the stage and exits; an error is reported in one line and by the exit code."""
    code = 0
    try:
        _run(argv)
    except SystemExit:
        raise
    except BaseException as error:
        code = failures.report(error, _WORKDIR.value)
    # The error is freed by now, and with it all that its frames held, such as worker processes.
    sys.exit(code)


def _run(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; see --help")
    if _CONFIG.value is None:
        raise UserError(
            "set --config to a file in configs/, such as --config=configs/NAME.py, and --workdir "
            "to a folder for the results; see --help"
        )
    if not _WORKDIR.value and _writes(_CONFIG.value):
        raise UserError("set --workdir to a folder for the results")
    _check(_CONFIG.value)
    with contextlib.ExitStack() as shown:
        if not _is_endless(_CONFIG.value):
            shown.enter_context(console.signs_of_life())
        try:
            # These modules import JAX, which is slow. Importing them only here keeps --help fast.
            from fer_jax import backend, workdir
        except ValueError as error:  # JAX reads its environment variables when it is imported
            raise UserError(
                f"JAX rejects an environment variable ({error}); correct it or unset it"
            ) from error

        backend.prepare(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        if not backend.writes():
            shown.close()
        stage = stages.find_stage(str(_CONFIG.value.get("stage", "")))
        if _FREE.value and _WORKDIR.value:
            flags.FLAGS["workdir"].value = str(workdir.own_or_free(_CONFIG.value, _WORKDIR.value))
        with interrupts.as_exception(), backend.an_error_ends_all(_WORKDIR.value):
            stage.run(_CONFIG.value, _WORKDIR.value)


def _check(config: ConfigDict) -> None:
    """Raises `UserError` for faults that can be found without importing JAX, which is slow."""
    record = schemas.validated(config, parts=False)
    if isinstance(record, schemas.Stage):
        inputs.paths_of(record)
    else:
        stages.find_stage(str(config.get("stage", "")))


def _is_endless(config: ConfigDict) -> bool:
    """Whether the stage runs until the user ends it: a server, or a live camera."""
    return not _writes(config) or bool(config.get("camera"))


def _writes(config: ConfigDict) -> bool:
    """Whether the stage of a config needs a workdir; True for an unknown stage."""
    schema = schemas.STAGES.get(str(config.get("stage", "")))
    return schema is None or schema.writes


def parse_flags(argv: list[str]) -> list[str]:
    """Parses `argv` and configures logging; returns `argv` without the flags.

    After an error in the flags, which is reported, and after --help, the program exits.
    """
    try:
        text, config = _load_config(argv)
        if text and _HELP & set(argv):
            _describe(text, config)
            if _SHORT_HELP & set(argv):  # absl would add the docstring of launch.py
                sys.exit(0)
        _check_overrides(argv, config)
        rest: list[str] = flags.FLAGS(_in_python(argv))
    except SystemExit:
        raise
    except BrokenPipeError:  # as in `launch.py --help | head`
        console.discard(sys.stdout)
        sys.exit(0)
    except flags.UnrecognizedFlagError as error:
        hint = did_you_mean(error.flagname, flags.FLAGS)
        fault = f"there is no flag --{error.flagname}{hint}; --helpfull lists the flags"
        sys.exit(failures.report(UserError(fault)))
    except flags.DuplicateFlagError:
        fault = "--config is set twice; set it once, and not after the name of a command"
        sys.exit(failures.report(UserError(fault)))
    except (flags.Error, TypeError, ValueError) as error:
        sys.exit(failures.report(UserError(_in_words(str(error)))))
    except BaseException as error:
        sys.exit(failures.report(error))
    verbosity = flags.FLAGS["verbosity"]
    console.configure(None if verbosity.using_default_value else verbosity.value)
    return rest


def _in_words(fault: str) -> str:
    """`fault`, a message of absl, with Python's messages about numbers replaced by plain words."""
    fault = re.sub(r"invalid literal for int\(\).*", "must be a whole number", fault)
    return re.sub(r"could not convert string to float.*", "must be a number", fault)


def _in_python(argv: list[str]) -> list[str]:
    """The arguments, with the path of a saved `config.json` replaced by a Python config file.

    The Python file loads the saved config. absl accepts only such files.
    """
    words = list(argv)
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag.lstrip("-") == "config" and flag.startswith("-") and equals:
            words[place] = f"{flag}={config_files.in_python(value)}"
        elif place and words[place - 1] in ("-config", "--config"):
            words[place] = config_files.in_python(word)
    return words


def _load_config(argv: list[str]) -> tuple[str, ConfigDict]:
    """The docstring of the config file that `argv` names, and its config without overrides.

    Both are empty if `argv` has no --config. absl loads the file too, but its errors do not say
    where the fault is.
    """
    values = flags.FlagValues()
    name = flags.DEFINE_string("config", None, "", flag_values=values)
    values([argument for argument in argv if argument not in _HELP], known_only=True)
    if name.value is None:
        return "", ConfigDict()
    return config_files.load(name.value)


def _check_overrides(argv: list[str], config: ConfigDict) -> None:
    """Raises `UserError` for the first override whose field does not exist or cannot be parsed."""
    for argument in argv:
        flag = argument.split("=", 1)[0].lstrip("-")
        if not argument.startswith("-") or not flag.startswith("config."):
            continue
        field = flag.removeprefix("config.")
        try:
            config_path.get_value(field, config)
        except ValueError:
            parent, _, name = field.rpartition(".")
            raise UserError(
                f"cannot read the field name in --{flag}; a name with characters other than "
                f"letters, digits and _ is written in brackets: "
                f'"--config{"." if parent else ""}{parent}[{name!r}]=..."'
            ) from None
        except (AttributeError, KeyError, IndexError, TypeError):
            known = list(config_files.fields(config))
            raise UserError(config_files.unknown_field(field, known)) from None


def _describe(text: str, config: ConfigDict) -> None:
    """Prints the docstring and the fields of a config file, which absl's help does not show."""
    console.say(*text.splitlines(), "")
    for name, value in config_files.fields(config).items():
        if not isinstance(value, ConfigDict) and name != "stage":
            console.say(f"  --config.{name}={value}")
    console.say("  --workdir=DIR", "", "--helpfull lists the other flags, such as --verbosity.")


def _as_fer_jax(text: str) -> str:
    """A text with the commands and flags of `fer-jax` instead of those of `launch.py`."""
    text = re.sub(r"python launch\.py\s+(?:\\\s+)?--config=configs/(\w+)\.py", r"fer-jax \1", text)
    text = re.sub(r"(?:--config=)?(?<![\w/])configs/(\w+)\.py", r"fer-jax \1", text)
    return re.sub(r"--config\.(?=\w)", "--", text)
