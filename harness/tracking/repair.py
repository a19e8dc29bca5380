"""What the store says of runs whose processes died before they could tell it: put right by whoever looks next."""

import socket
from collections.abc import Callable, Iterable, Iterator

from harness.errors import UserError
from harness.leases import is_held
from harness.run_paths import RunPaths
from harness.run_state import read_state, unreadable
from harness.tracking.cursor import load
from harness.tracking.home import home
from harness.tracking.shipment import ship
from harness.tracking.snapshot import STATUS
from harness.tracking.store import database


def repair(runs: Iterable[RunPaths], uri: str, say: Callable[[str], object]) -> None:
    """Ship the runs that have ended while the store shows them as running or waiting.

    say gets a line where the store does not answer, where the run folder cannot be written, and where runs wait for
    `harness sync` at the store's home.
    """
    behind = list(_behind(runs, uri, say))
    file = database(uri)
    owner = home(file) if file else None
    if owner and any(read_state(paths).host not in ("", owner) for paths in behind):
        say(f"only {owner} opens {file}: `harness sync` there brings the runs on other hosts to MLflow")
    if owner and owner != socket.gethostname():
        return
    try:
        for paths in filter(_was_abandoned, behind):
            ship(paths, uri)
    except (UserError, OSError) as error:  # looking at runs is no reason to fail on a full disk, or in others' folders
        say(f"{error}; MLflow shows runs as going on that are not; later: harness sync")


def _behind(runs: Iterable[RunPaths], uri: str, say: Callable[[str], object]) -> Iterator[RunPaths]:
    """Those of which the store was told something else; of one that cannot be read, only that is said."""
    for paths in runs:
        try:
            if not _is_behind(paths, uri):
                continue
        except UserError as error:
            say(str(error))
            continue
        if why := unreadable(paths):
            say(why)
        else:
            yield paths


def _is_behind(paths: RunPaths, uri: str) -> bool:
    """Whether the store was last told of another state than that of now."""
    state, told = read_state(paths), load(paths, uri).status
    return told.split(" ")[0] != STATUS[state.state]


def _was_abandoned(paths: RunPaths) -> bool:
    """Whether the run has ended on this host, and no shipper is about to say so."""
    state = read_state(paths)
    return state.state.ended and state.host == socket.gethostname() and not is_held(paths.folder / "tracking.lease")
