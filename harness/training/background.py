"""Work beside the training: one piece at a time, whose failure comes to light in the training."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from types import TracebackType
from typing import Generic, Self, TypeVar

Result = TypeVar("Result")


class Background(Generic[Result]):
    """A thread for a piece of work, and its outcome. As a context it is waited for, also after a failure."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._outcome: Future[Result] | None = None

    def start(self, work: Callable[[], Result]) -> None:
        """Begin `work`; the piece before it must have been waited for."""
        assert self._outcome is None
        self._outcome = outcome = Future[Result]()

        def run() -> None:
            try:
                outcome.set_result(work())
            except BaseException as error:
                outcome.set_exception(error)

        threading.Thread(target=run, name=self.name, daemon=True).start()

    @property
    def done(self) -> bool:
        """Whether there is an outcome to be had without waiting."""
        return self._outcome is not None and self._outcome.done()

    def done_within(self, seconds: float) -> bool:
        """Whether there is, after waiting that long at most."""
        return self._outcome is not None and bool(wait([self._outcome], timeout=seconds).done)

    def wait(self) -> Result | None:
        """The result when it is there, or the error raised; None where nothing was begun since the last call."""
        outcome, self._outcome = self._outcome, None
        return None if outcome is None else outcome.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait, unless told to stop at once (Ctrl-C); an error that is under way counts for more than the work's."""
        if kind is None:
            self.wait()
        elif issubclass(kind, Exception) and self._outcome is not None:
            self._outcome.exception()
