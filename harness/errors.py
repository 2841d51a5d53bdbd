"""The one exception that a user's mistake raises."""


class UserError(Exception):
    """A mistake that the user can mend: shown as one line, without traceback, exit code 2.

    The message names the file, the key and what was expected there.
    """
