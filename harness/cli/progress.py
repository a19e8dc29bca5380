"""Progress bars of commands: on a terminal only."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def count_bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told (done, total)."""
    with _bar(text, bytes_=False) as advance:
        yield lambda done, total: advance(done, total)


@contextmanager
def download_bar(text: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar in bytes that is told (done, total or None)."""
    with _bar(text, bytes_=True) as advance:
        yield advance


@contextmanager
def _bar(text: str, *, bytes_: bool) -> Iterator[Callable[[int, int | None], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    size = DownloadColumn() if bytes_ else MofNCompleteColumn()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), size, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def share_on_terminal(what: str, done: int, total: int | None) -> None:
    """How much of a thing is done, over and over in one line."""
    if sys.stderr.isatty():
        share = f"{100 * done / total:5.1f} %" if total else f"{done}"
        print(f"\r{what}: {share}", end="", file=sys.stderr, flush=True)
