"""The process that ships a run: `python -m harness.tracking.shipper FOLDER --uri URI`, from beside its training."""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import UserError
from harness.processes import is_orphan_of
from harness.run_paths import RunPaths
from harness.run_state import read_state, settle
from harness.tracking.shipment import has_news, ship
from harness.tracking.store import StoreError

PATIENCE = 60.0
"""Seconds for which a run that has ended goes on trying to reach its store."""
LONGEST_PAUSE = 60.0


def follow(paths: RunPaths, uri: str, interval: float = 5.0, parent: int | None = None) -> bool:
    """Ship again and again until the run has ended, or the process `parent` is gone; whether the store has everything.

    A store that does not answer is tried again with growing pauses, and once the run has ended for PATIENCE seconds
    more. Each outage is told in one line on stderr.
    Raises ForeignStore at once where the store is an SQLite file of another host.
    """

    def over() -> bool:
        return read_state(paths).state.ended or (parent is not None and is_orphan_of(parent))

    return _follow(lambda: [paths], uri, interval, over=over)


def follow_all(find: Callable[[], Sequence[RunPaths]], uri: str, interval: float = 5.0) -> bool:
    """The same for all runs that `find` lists, one after the other in each round, until none is left to end.

    A run that comes to the list meanwhile is shipped, too; one whose process died without a word has ended.
    """
    return _follow(find, uri, interval, over=lambda: all(settle(paths).state.ended for paths in find()))


def _follow(find: Callable[[], Sequence[RunPaths]], uri: str, interval: float, *, over: Callable[[], bool]) -> bool:
    pause, failing, give_up = interval, False, float("inf")
    while True:
        if leaving := over():
            give_up = min(give_up, time.monotonic() + PATIENCE)
        try:
            for paths in find():
                ship(paths, uri)
        except StoreError as error:
            if time.monotonic() > give_up:
                _say(f"{error}; giving up, ship the rest later with: harness sync")
                return False
            if not failing:
                _say(f"{error}; trying again")
            failing, pause = True, min(LONGEST_PAUSE, 2 * pause)
        else:
            if failing:
                _say("the store answers again, and is up to date")
            failing, pause = False, interval
            complete = not any(has_news(paths, uri) for paths in find())
            if leaving and (complete or time.monotonic() > give_up):
                return complete
        if leaving:
            time.sleep(min(pause, interval))
        else:
            _wait(pause, over)


def _wait(seconds: float, over: Callable[[], bool]) -> None:
    """Sleep, but not through the end."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not over():
        time.sleep(min(1.0, left))


def _say(line: str) -> None:
    sys.stderr.write(f"shipper: {line}\n")
    sys.stderr.flush()


def main(arguments: list[str] | None = None) -> int:
    """Follow a run: 0 when the store has everything, 1 when it could not be reached, 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m harness.tracking.shipper", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="the run folder")
    parser.add_argument("--uri", required=True, help="the tracking store")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between looks at the folder")
    parser.add_argument("--parent", type=int, help="leave when this process, the one that started it, is gone")
    given = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGUSR2):  # meant for the training, whose end is shipped, too;
        signal.signal(number, signal.SIG_IGN)  # SLURM warns every process of a job
    try:
        return 0 if follow(RunPaths(given.folder), given.uri, given.interval, given.parent) else 1
    except UserError as error:
        _say(str(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())
