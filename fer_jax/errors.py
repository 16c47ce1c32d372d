"""The errors whose message is meant for the person at the keyboard."""


class UserError(Exception):
    """Something that the user can fix: one line saying what is wrong, where, and what to do.

    `launch.py` prints the line without a traceback and exits with `exit_code`.
    """

    exit_code = 2


class NotApplicableError(UserError):
    """A method cannot be used on these data, whatever the other fields of the config."""


class CheckFailedError(UserError):
    """A check ran to its end and its answer is no."""

    exit_code = 1


class TerminatedError(UserError):
    """SIGTERM came and the work is saved; the shell's own code for an end by that signal."""

    exit_code = 128 + 15
