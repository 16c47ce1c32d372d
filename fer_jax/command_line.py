"""The command line: `launch.py` of a checkout, and `fer-jax` of an installed package.

python launch.py --config=configs/pipeline.py --config.videos=DIR --config.photos=DIR --workdir=DIR
fer-jax pipeline --videos=DIR --photos=DIR --workdir=DIR

Both run the stage that a config names. Any field of the config can be given as a flag:
--config.steps.pretrain.epochs=100, which `fer-jax` also accepts as --steps.pretrain.epochs=100.
Each config's docstring says what it does, what it costs and what to expect.
Exit codes: 0, 2 for an error that the user can fix, 1 for a check that answers no and for any other
error, 130 for Ctrl-C, 143 for SIGTERM. --verbosity=0 shows what the libraries log, --verbosity=1
tracebacks too.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import app, flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import config_path

from fer_jax import config_files, console, failures, interrupts, schemas
from fer_jax.data import names
from fer_jax.errors import UserError

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The config file, e.g. configs/pipeline.py.", lock_config=True
)
_FILE_FIELDS = {"input": "one file or folder", "model": "one model"}  # the first that a config has
_SHORT_HELP = {"-h", "-help", "--help", "-helpshort", "--helpshort"}
_HELP = {*_SHORT_HELP, "-helpfull", "--helpfull"}
_WORKDIR = flags.DEFINE_string("workdir", None, "The folder that the stage reads and writes.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0 of several, or auto (docs/many_hosts.md)."
)
_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes train together.")
_PROCESS = flags.DEFINE_integer("process_id", None, "Which of them this one is, from 0.")


def launch() -> None:
    """Runs the command line of `launch.py`, which stands in `sys.argv`."""
    app.run(main, flags_parser=parse_flags)


def installed() -> None:
    """Runs the command line of `fer-jax`: NAME [FILE] and flags."""
    interrupts.exit_at_once()
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
    """The arguments of `launch.py` that those of `fer-jax` stand for.

    NAME is the config file of that name in `configs`, FILE its field `input` (or `model`, where it
    has no input), and --FIELD=VALUE or --FIELD VALUE stands for --config.FIELD=VALUE. The workdir
    is work/NAME where none is given, or work/NAME/STEM for a FILE; where that holds the results of
    another file, a digest is added to its name. Arguments without NAME stay as they are. With
    --help, the fields of NAME are shown and the program ends.

    Raises:
        UserError: there is no such config, or it has no field for a FILE.
    """
    if not arguments or (len(arguments) == 1 and arguments[0] in _HELP):
        _list_configs(configs)
        sys.exit(0)
    if arguments[0].startswith("-"):
        return list(arguments)
    path = config_files.named(arguments[0], configs, "command")
    name = arguments[0].partition(":")[0]
    text, config = _load_config(["fer-jax", f"--config={path}"])
    if _SHORT_HELP & set(arguments):
        _describe(_as_fer_jax(text), config, prefix="--")
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
        translated.append(f"--workdir={workdir}")
    return translated


def _own_workdir(folder: Path, field: str, file: str) -> Path:
    """The workdir below `folder` for a value of `field`, the same for the same file."""
    path = Path(file).resolve()
    plain = folder / path.stem
    told_apart = folder / f"{path.stem}-{names.digest(str(path))[:8]}"
    try:
        held = Path(json.loads((plain / "config.json").read_text("utf-8"))[field]).resolve()
    except (OSError, ValueError, KeyError, TypeError):  # nothing, or what the stage refuses
        held = path
    return told_apart if told_apart.exists() or held != path else plain


def _full_flag(word: str, config: ConfigDict, following: Iterator[str]) -> str:
    """`word` as --FLAG=VALUE, with `config.` before the name of a field.

    The value is the next word where none is given, unless the flag is boolean.
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
    console.say("", "fer-jax NAME --help shows the fields of one of them.")


def main(argv: list[str]) -> None:
    """Runs the stage; an error is one line on standard error and an exit code."""
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
    if _CONFIG.value is None or (not _WORKDIR.value and _writes(_CONFIG.value)):
        raise UserError("give --config=configs/NAME.py and --workdir=DIR; see --help")
    with console.signs_of_life():
        try:
            from fer_jax import backend  # imports jax: after the flags, so that --help is quick
        except ValueError as error:  # JAX reads its environment variables when it is imported
            raise UserError(f"JAX rejects an environment variable: {error}") from error
        from fer_jax import stages

        backend.prepare(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        stage = stages.find_stage(str(_CONFIG.value.get("stage", "")))
        with interrupts.as_exception(), backend.an_error_ends_all(_WORKDIR.value):
            stage.run(_CONFIG.value, _WORKDIR.value)


def _writes(config: ConfigDict) -> bool:
    """Whether the stage of a config needs a workdir."""
    schema = schemas.STAGES.get(str(config.get("stage", "")))
    return schema is None or schema.writes


def parse_flags(argv: list[str]) -> list[str]:
    """Parses `argv` and configures logging; returns the arguments that are no flags."""
    try:
        text, config = _load_config(argv)
        if text and _HELP & set(argv):
            _describe(text, config, prefix="--config.")
            if _SHORT_HELP & set(argv):  # absl would add the docstring of launch.py
                sys.exit(0)
        _check_overrides(argv, config)
        rest: list[str] = flags.FLAGS(argv)
    except SystemExit:
        raise
    except BrokenPipeError:  # as in `launch.py --help | head`
        console.discard(sys.stdout)
        sys.exit(0)
    except flags.UnrecognizedFlagError as error:
        sys.exit(failures.report(UserError(f"{error}; --helpfull lists the flags")))
    except (flags.Error, TypeError, ValueError) as error:
        sys.exit(failures.report(UserError(str(error))))
    except BaseException as error:
        sys.exit(failures.report(error))
    verbosity = flags.FLAGS["verbosity"]
    console.configure(None if verbosity.using_default_value else verbosity.value)
    return rest


def _load_config(argv: list[str]) -> tuple[str, ConfigDict]:
    """The docstring of the config file that `argv` names, and its config without overrides.

    absl loads the file too, but would hide where a faulty file or field is wrong.
    """
    values = flags.FlagValues()
    name = flags.DEFINE_string("config", None, "", flag_values=values)
    values([argument for argument in argv if argument not in _HELP], known_only=True)
    if name.value is None:
        return "", ConfigDict()
    return config_files.load(name.value)


def _check_overrides(argv: list[str], config: ConfigDict) -> None:
    """Raises `UserError` for the first override of a field that the config does not have."""
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


def _describe(text: str, config: ConfigDict, *, prefix: str) -> None:
    """Prints the config file's docstring and its fields, which absl does not know."""
    console.say(*text.splitlines(), "")
    for name, value in config_files.fields(config).items():
        if not isinstance(value, ConfigDict) and name != "stage":
            console.say(f"  {prefix}{name}={value}")
    console.say("  --workdir=DIR", "", "--helpfull lists the other flags, such as --verbosity.")


def _as_fer_jax(text: str) -> str:
    """The docstring of a config file with the commands of `fer-jax` for those of `launch.py`."""
    text = re.sub(r"python launch\.py\s+(?:\\\s+)?--config=configs/(\w+)\.py", r"fer-jax \1", text)
    text = re.sub(r"(?:--config=)?\bconfigs/(\w+)\.py", r"fer-jax \1", text)
    return re.sub(r"--config\.(?=\w)", "--", text)
