"""Processes: which one a record means, whether it is of this machine, when it started, and whether it still works;

ending with the one that started this one; and signals that are not to reach what is started.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import psutil


class Signed(Protocol):
    """A record that names the process which wrote it, as `signature` does."""

    @property
    def host(self) -> str: ...
    @property
    def space(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def started(self) -> float: ...


def signature(pid: int | None = None) -> dict[str, Any]:
    """What names a process of this machine (this one, if none is given), wherever it is read.

    Raises psutil.NoSuchProcess.
    """
    pid = pid or os.getpid()
    return {"host": socket.gethostname(), "space": space(), "pid": pid, "started": start_time(pid)}


@cache
def space() -> str:
    """Where ids of processes mean the same as here: the boot of a kernel and a namespace in it. "" where the system

    does not tell, as outside of Linux; two containers may well have one host name.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def is_here(record: Signed) -> bool:
    """Whether the process that a record names was started where this one can see it. An older record has no space."""
    return record.host == socket.gethostname() and record.space in ("", space())


def has_died(record: Signed) -> bool:
    """Whether the process that a record names was one of this machine, and works no more."""
    return is_here(record) and not is_working(record.pid, record.started)


def ended_with_its_boot(record: Signed) -> bool:
    """Whether this machine, or another one of its name, was started anew since the process of a record began."""
    other = record.space and _boot(record.space) != _boot(space())
    return bool(other) and record.host == socket.gethostname() and record.started < psutil.boot_time()


def whereabouts(record: Signed) -> str:
    """Where the process of a record is or was, in words."""
    if record.host != socket.gethostname() or is_here(record):
        return record.host
    if ended_with_its_boot(record):
        return f"{record.host} (before it was started anew)"
    alike = _boot(record.space) == _boot(space())
    return f"{record.host} ({'another container there' if alike else 'another machine of that name'})"


def _boot(space_: str) -> str:
    return space_.partition(" ")[0]


def node_name() -> str:
    """The name that a cluster has for this machine, where a job of it runs here; else the host's."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def start_time(pid: int | None = None) -> float:
    """When a process (this one, if none is given) started, in seconds since 1970: with its id, its identity.

    Raises psutil.NoSuchProcess.
    """
    return float(psutil.Process(pid).create_time())


def is_working(pid: int, started: float) -> bool:
    """Whether the process that had this id and start time still works.

    One that has ended but was not reaped does not: in a container without an init, orphans stay zombies for ever.
    """
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 2 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_orphan_of(parent: int) -> bool:
    """Whether the process of this id, which started this one, is gone.

    It tells this one its id: one that asks for it only when it runs may have lost it already.
    """
    return os.getppid() != parent


def end_with(parent: int) -> None:
    """From now on, end this process at once when the one that started it is gone, whatever its threads do."""
    threading.Thread(target=_end_as_orphan_of, args=(parent,), name="parent", daemon=True).start()


def _end_as_orphan_of(parent: int) -> None:
    while not is_orphan_of(parent):
        time.sleep(0.5)
    os._exit(1)


@contextmanager
def blocked(signals: Collection[signal.Signals]) -> Iterator[None]:
    """This thread gets none of these signals, nor does what it starts; those that came are delivered afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
