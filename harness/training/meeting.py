"""Where the processes of one training meet, without a port that another training of the same node may have."""

import os
import time
from datetime import timedelta
from pathlib import Path

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from harness.errors import UserError
from harness.files import read_json, write_json

PATIENCE = 600.0
"""Seconds for which the others wait for rank 0's address."""


def meet(file: Path, *, rank: int, world: int, timeout: timedelta) -> TCPStore:
    """The store through which `world` processes find each other.

    Rank 0 serves it at a port that the system gives, and says where in `file`, on a disk that all see; it must be of
    these processes alone.
    Raises UserError where rank 0 does not say so in time.
    """
    if rank == 0:
        host = os.environ.get("SLURMD_NODENAME", "127.0.0.1")
        store = TCPStore(host, 0, world, is_master=True, timeout=timeout, wait_for_workers=False)
        write_json(file, {"host": host, "port": store.port})
        return store
    deadline = time.monotonic() + PATIENCE
    while not file.exists():
        if time.monotonic() > deadline:
            raise UserError(f"{file}: rank 0 did not say within {PATIENCE:.0f} s where to meet; see its output")
        time.sleep(0.2)
    where = read_json(file)
    return TCPStore(where["host"], where["port"], world, is_master=False, timeout=timeout)
