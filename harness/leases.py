"""A lease: one holder at a time, on file systems where locks cannot be trusted, and after a holder that died.

A lease is a folder of numbered files. Whoever creates the next number (a hard link: complete, or not at all) holds the
lease until the time written in it. A higher number fences off a holder that overslept its time.
"""

import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import write_json
from harness.processes import is_working, start_time

SECONDS = 120.0
"""How long a lease lasts without renewal; a dead holder on the same host is noticed at once."""


class LeaseLost(UserError):
    """Somebody else took the lease over, because it had expired."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that this process holds."""

    folder: Path
    number: int

    def renew(self) -> None:
        """Hold on for another SECONDS.

        Raises LeaseLost where another process holds the lease by now.
        """
        if max(_numbers(self.folder), default=0) != self.number:
            raise LeaseLost(f"{self.folder}: another process has gone on meanwhile; run the command again")
        write_json(_file(self.folder, self.number), _holder(time.time() + SECONDS))

    def release(self) -> None:
        """Let the next one take the lease at once."""
        if max(_numbers(self.folder), default=0) == self.number:
            write_json(_file(self.folder, self.number), _holder(0.0))

    def discard(self) -> None:
        """Release the lease and leave no file: for what is done once, such as bringing a file."""
        _file(self.folder, self.number).unlink(missing_ok=True)
        with suppress(OSError):  # another process is about to take it
            self.folder.rmdir()


def acquire(folder: Path) -> Lease | None:
    """Take the lease, or None where another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    newest = max(_numbers(folder), default=0)
    if newest and not _is_free(_file(folder, newest)):
        return None
    mine = Lease(folder, newest + 1)
    if not _create(_file(folder, mine.number), _holder(time.time() + SECONDS)):
        return None
    numbers = _numbers(folder)
    if max(numbers) > mine.number:  # this process slept since it looked: others have come and gone
        _file(folder, mine.number).unlink(missing_ok=True)
        return None
    for number in numbers:
        if number < mine.number:
            _file(folder, number).unlink(missing_ok=True)
    return mine


@contextmanager
def holding(folder: Path, *, patience: float) -> Iterator[Lease]:
    """Hold the lease for a block, waiting up to `patience` seconds for it.

    Raises TimeoutError where it cannot be had.
    """
    deadline = time.monotonic() + patience
    while (lease := acquire(folder)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{folder}: held by another process for {patience:.0f} s")
        time.sleep(0.05)
    try:
        yield lease
    finally:
        lease.release()


def is_held(folder: Path) -> bool:
    """Whether a process holds the lease at this moment."""
    newest = max(_numbers(folder), default=0)
    return bool(newest) and not _is_free(_file(folder, newest))


def is_idle(folder: Path) -> bool:
    """Whether the last holder released the lease properly, or there never was one."""
    newest = max(_numbers(folder), default=0)
    return not newest or _read(_file(folder, newest)).get("expires") == 0.0


def _holder(expires: float) -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": start_time(), "expires": expires}


def _is_free(file: Path) -> bool:
    holder = _read(file)
    if not holder:
        return False
    if holder["expires"] < time.time():
        return True
    return holder["host"] == socket.gethostname() and not is_working(holder["pid"], holder["started"])


def _read(file: Path) -> dict[str, Any]:
    """The holder; empty where the file has just been removed in favour of a higher number."""
    try:
        value: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return value


def _numbers(folder: Path) -> list[int]:
    return [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()] if folder.is_dir() else []


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}"


def _create(file: Path, holder: dict[str, Any]) -> bool:
    """Create the file with its content in one step; False where it exists."""
    with tempfile.TemporaryDirectory(prefix=".lease.", dir=file.parent) as temporary:
        source = Path(temporary) / file.name
        write_json(source, holder)
        try:
            os.link(source, file)
        except FileExistsError:
            return False
    return True
