"""Reports the error that ends a command: one line, an exit code, and a traceback in a file.

2     an error that the user can fix (`UserError`)
1     a check that failed (`CheckFailedError`); or any other error, which is a bug in this package:
      the line names the file with the traceback
130   SIGINT
143   SIGTERM, after the work was saved (`TerminatedError`)
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from absl import flags

from fer_jax import console, interrupts, outputs
from fer_jax.environment import versions
from fer_jax.errors import UserError

ERROR_LOG = "error.log"

_LONGEST = 500  # characters of an unexpected error's own message


def report(
    error: BaseException, workdir: str | os.PathLike[str] | None = None, prefix: str = ""
) -> int:
    """Prints one line about `error`, and returns the exit code.

    The traceback of an unexpected error is appended to `error.log` in the workdir if a stage has
    begun there. Otherwise it is written to a new file in the temporary folder. Tracebacks are
    printed only with --verbosity=1.

    Args:
        error: the error that ended the command.
        workdir: the value of --workdir, or None.
        prefix: put before the message, such as the number of the process.
    """
    if console.debugging():
        console.say(*"".join(traceback.format_exception(error)).splitlines())
    if isinstance(error, UserError):
        console.fail(prefix + console.one_line(str(error)))
        return error.exit_code
    if isinstance(error, KeyboardInterrupt) or interrupts.asked():
        console.fail(prefix + interrupts.MESSAGE)
        return interrupts.EXIT_CODE
    file = _write_traceback(error, workdir)
    where = f"the traceback is in {file}" if file else "--verbosity=1 shows the traceback"
    console.fail(f"{prefix}unexpected error: {_brief(error)}; {where}; please report it")
    return 1


def _brief(error: BaseException) -> str:
    text = console.one_line(str(error))
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _without_removed_person(text: str) -> str:
    """`text` with the id in `--config.remove` replaced: a removal must leave no id behind."""
    config = flags.FLAGS["config"].value if "config" in flags.FLAGS else None
    person = config.get("remove") if config else None
    return text.replace(person, "[removed]") if person else text


def _write_traceback(error: BaseException, workdir: str | os.PathLike[str] | None) -> Path | None:
    """Writes the traceback to a file and returns its path; None if no file can be written."""
    facts = " ".join(f"{name} {version}" for name, version in versions().items())
    entry = _without_removed_person(
        f"\n{time.strftime('%Y-%m-%d %H:%M:%S %z')}\n{' '.join(sys.argv)}\n{facts}\n"
        f"{''.join(traceback.format_exception(error))}"
    ).encode(errors="backslashreplace")
    if workdir and (Path(workdir) / outputs.RECORD).is_file():  # a stage has begun there
        file = Path(workdir).absolute() / ERROR_LOG
        with contextlib.suppress(OSError, UserError):  # UserError: no stage wrote the file
            outputs.claim(file)
            with file.open("ab") as stream:
                stream.write(entry)
            return file
    try:
        descriptor, name = tempfile.mkstemp(prefix="fer_jax_error_", suffix=".log")
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(entry)
    except OSError:
        return None
    return Path(name)
