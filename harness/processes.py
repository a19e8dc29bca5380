"""Processes of this host: when one started, and whether it still works."""

import os
import socket

import psutil


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
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - started) < 2
    except psutil.NoSuchProcess:
        return False
