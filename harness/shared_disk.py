"""What runs need of a shared file system, tried out, by one process alone and by two that may be on two machines."""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.files import fsync, write_json, write_text

FSYNCS = 20
ROUNDS = 5
RACES = 200
PATIENCE = 60.0
"""Seconds for which one process waits for the other's next word: NFS may hide a new file for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """What one process found."""

    faults: tuple[str, ...]  # what does not work as it must
    fsync_s: float  # median, to bring a small file to the disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """What two processes found."""

    lag_s: float  # the longest that a word took there and back
    twice: int  # of RACES files created exclusively, those that both believe to have created


def try_out(folder: Path) -> Disk:
    """Try exclusive create, link, rename over and fsync in an empty folder."""
    faults = []
    if not _creates(folder / "one") or _creates(folder / "one"):
        faults.append("exclusive create: a file can be created twice")
    try:
        os.link(folder / "one", folder / "two")
        with suppress(FileExistsError):
            os.link(folder / "one", folder / "two")
            faults.append("link: a name can be given twice")
    except OSError as error:
        faults.append(f"link: {error.strerror}")
    write_text(folder / "old", "old")
    write_text(folder / "new", "new")
    (folder / "new").replace(folder / "old")
    if (folder / "old").read_text(encoding="utf-8") != "new":
        faults.append("rename: the old content is still read")
    return Disk(faults=tuple(faults), fsync_s=statistics.median(_fsync_s(folder / str(n)) for n in range(FSYNCS)))


def lead(folder: Path, *, patience: float = PATIENCE) -> Meeting:
    """Meet a process that calls `follow` on the same folder, by now or soon.

    Raises TimeoutError where nothing is heard of it for so long.
    """
    (folder / "race").mkdir()
    wait_for(folder / "here", patience)
    lags = []
    for number in range(ROUNDS):
        began = time.monotonic()
        write_text(folder / f"ping.{number}", "")
        wait_for(folder / f"pong.{number}", patience)
        lags.append(time.monotonic() - began)
    mine = _race(folder / "race")
    wait_for(folder / "won.json", patience)
    others = set(json.loads((folder / "won.json").read_text(encoding="utf-8")))
    return Meeting(lag_s=max(lags), twice=len(mine & others) + RACES - len(mine | others))


def follow(folder: Path, *, patience: float = PATIENCE) -> None:
    """The other side of `lead`."""
    write_text(folder / "here", "")
    for number in range(ROUNDS):
        wait_for(folder / f"ping.{number}", patience)
        write_text(folder / f"pong.{number}", "")
    write_json(folder / "won.json", sorted(_race(folder / "race")))


def wait_for(path: Path, patience: float, look: Callable[[], None] = lambda: None) -> None:
    """Until there is such a file, calling `look` now and then.

    Raises TimeoutError where there is none for so long.
    """
    deadline = time.monotonic() + patience
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path.name} was not seen within {patience:.0f} s")
        look()
        time.sleep(0.005)


def _race(folder: Path) -> set[int]:
    """The files that this process creates before the other one does."""
    return {number for number in range(RACES) if _creates(folder / str(number))}


def _creates(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True


def _fsync_s(path: Path) -> float:
    path.write_bytes(bytes(100))
    began = time.perf_counter()
    fsync(path)
    return time.perf_counter() - began


def main() -> None:
    """Follow, in the folder that the command line names."""
    try:
        follow(Path(sys.argv[1]))
    except (TimeoutError, UserError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
