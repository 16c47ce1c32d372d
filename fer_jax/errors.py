"""Errors whose messages are meant for the user."""


class UserError(Exception):
    """An error that the user can fix; the message says what is wrong, where, and what to do.

    The command line prints it as one line and exits with `exit_code`; a traceback is printed only
    with --verbosity=1.
    """

    exit_code = 2


class NotApplicableError(UserError):
    """A method cannot be used on these data, whatever the other fields of the config are."""


class CheckFailedError(UserError):
    """A check was completed and failed."""

    exit_code = 1


class TerminatedError(UserError):
    """SIGTERM was received and the work was saved; exits with the shell's code for SIGTERM."""

    exit_code = 128 + 15
