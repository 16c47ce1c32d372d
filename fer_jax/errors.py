"""The one error whose message is meant for the person at the keyboard."""


class UserError(Exception):
    """Something that the user can mend: one line saying what is wrong, where, and what to do.

    `launch.py` prints the line without a traceback and exits with code 2.
    """
