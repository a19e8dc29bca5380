"""A lease: one holder at a time, on file systems where locks cannot be trusted, and after a holder that died.

A lease is a folder of numbered files. Whoever creates the next number (a hard link: complete, or not at all) holds the
lease until the time written in it. A higher number fences off a holder that overslept its time.
"""

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.errors import UserError
from harness.files import known_fields, write_json
from harness.processes import has_died, is_here, signature

SECONDS = 120.0
"""How long a lease lasts without renewal; a holder that died on this machine is noticed at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Holder:
    """Who holds a lease, and until when."""

    host: str
    space: str = ""
    pid: int
    started: float
    expires: float  # in seconds since 1970; 0: it was released


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
        _write(_file(self.folder, self.number), time.time() + SECONDS)

    def release(self) -> None:
        """Let the next one take the lease at once."""
        if max(_numbers(self.folder), default=0) == self.number:
            _write(_file(self.folder, self.number), 0.0)

    def discard(self) -> None:
        """Release the lease and leave no file: for what is done once, such as bringing a file."""
        _file(self.folder, self.number).unlink(missing_ok=True)
        with suppress(OSError):  # another process is about to take it
            self.folder.rmdir()


def acquire(folder: Path) -> Lease | None:
    """Take the lease, or None where another process holds it.

    Raises OSError, naming the folder, where that cannot be made or written.
    """
    try:
        return _acquire(folder)
    except OSError as error:  # of a file that only this module knows
        raise OSError(error.errno, error.strerror, str(folder)) from None


def _acquire(folder: Path) -> Lease | None:
    folder.mkdir(parents=True, exist_ok=True)
    newest = max(_numbers(folder), default=0)
    if newest and not _is_free(_file(folder, newest)):
        return None
    mine = Lease(folder, newest + 1)
    if not _create(_file(folder, mine.number), time.time() + SECONDS):
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


@contextmanager
def renewing(lease: Lease) -> Iterator[None]:
    """Renew the lease, by a thread, beside a block that may be long at one thing.

    One that is lost is no longer renewed; `lease.renew()` tells. Where it cannot be written, that is tried again.
    """
    done = threading.Event()

    def renew() -> None:
        while not done.wait(SECONDS / 4):
            try:
                lease.renew()
            except LeaseLost:
                return
            except (UserError, OSError):
                continue

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def is_held(folder: Path) -> bool:
    """Whether a process holds the lease at this moment."""
    newest = max(_numbers(folder), default=0)
    return bool(newest) and not _is_free(_file(folder, newest))


def is_idle(folder: Path) -> bool:
    """Whether the last holder released the lease properly, or there never was one."""
    newest = max(_numbers(folder), default=0)
    holder = _read(_file(folder, newest)) if newest else None
    return not newest or (holder is not None and holder.expires == 0.0)


def is_held_elsewhere(folder: Path) -> bool:
    """Whether the lease is held by a process of which this machine cannot tell whether it still works."""
    newest = max(_numbers(folder), default=0)
    holder = _read(_file(folder, newest)) if newest else None
    return holder is not None and holder.expires >= time.time() and not is_here(holder)


def _is_free(file: Path) -> bool:
    holder = _read(file)
    return holder is not None and (holder.expires < time.time() or has_died(holder))


def _read(file: Path) -> _Holder | None:
    """The holder; None where the file has just been removed in favour of a higher number."""
    try:
        return _Holder(**known_fields(_Holder, json.loads(file.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        return None


def _write(file: Path, expires: float) -> None:
    write_json(file, asdict(_Holder(**signature(), expires=expires)))


def _numbers(folder: Path) -> list[int]:
    return [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()] if folder.is_dir() else []


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}"


def _create(file: Path, expires: float) -> bool:
    """Create the file with its content in one step; False where it exists."""
    with tempfile.TemporaryDirectory(prefix=".lease.", dir=file.parent) as temporary:
        source = Path(temporary) / file.name
        _write(source, expires)
        try:
            os.link(source, file)
        except FileExistsError:
            return False
    return True
