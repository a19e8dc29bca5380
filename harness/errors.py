"""The one exception that means "the user can mend this"."""

from harness.failures import Failure


class UserError(Exception):
    """A user's mistake: what is wrong, where, what was expected and what to do, one line a mistake.

    The command line prints the text and exits with 2; no traceback is shown.
    failure: the kind of failure of an attempt that it ends.
    """

    def __init__(self, text: str, *, failure: Failure = Failure.MISTAKE) -> None:
        super().__init__(text)
        self.failure = failure
