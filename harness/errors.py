"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """A user's mistake: what is wrong, where, what was expected and what to do, one line a mistake.

    The command line prints the text and exits with 2; no traceback is shown.
    """
