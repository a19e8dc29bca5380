"""The journal: the append-only log of one attempt, in the published field names, flushed line by line.

One attempt writes one segment and nothing else writes it; run_log.py says which rows of several attempts count.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.errors import UserError
from harness.files import MAKE_ROOM, disk_full, fsync
from harness.recipe import to_dict
from harness.run_log import repair_log, row_key
from harness.run_paths import RunPaths
from harness.run_spec import RunSpec

FSYNC_SECONDS = 30.0


class Journal:
    """Appends JSON lines to a segment. A line is handed to the system at once, and to the disk by a timer's thread.

    known: (mode, step) of rows that earlier attempts have journaled; they are not written again.
    """

    def __init__(self, path: Path, known: Collection[tuple[str, int]] = ()) -> None:
        self.path, self.known = path, known
        path.parent.mkdir(parents=True, exist_ok=True)
        repair_log(path)
        self._file = path.open("ab", buffering=0)
        fsync(path.parent)
        self._fault: UserError | None = None  # of the timer's thread
        self._done = threading.Event()
        self._timer = threading.Thread(target=self._sync_regularly, name="journal-fsync", daemon=True)
        self._timer.start()

    def write(self, row: dict[str, Any]) -> None:
        """Append one row, stamped with the time (`stamp`, seconds since 1970), unless it is known.

        Raises UserError where the disk does not take it whole (then it is not there at all), or did not keep an
        earlier one.
        """
        if self._fault:
            raise self._fault
        if row_key(row) in self.known:
            return
        line = (json.dumps(row | {"stamp": round(time.time(), 3)}) + "\n").encode()
        end = self._file.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            self._file.truncate(end)
            raise self._refused(error) from None

    def sync(self) -> None:
        """Return when all rows are on the disk.

        Raises UserError where the disk does not take them.
        """
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._refused(error) from None

    def close(self) -> None:
        """Bring everything to the disk and end the timer."""
        self._done.set()
        self._timer.join()
        try:
            self.sync()
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _sync_regularly(self) -> None:
        while not self._done.wait(FSYNC_SECONDS):
            try:
                self.sync()
            except UserError as error:
                self._fault = error
                return

    def _refused(self, error: OSError) -> UserError:
        full = disk_full(error)
        advice = MAKE_ROOM if full else "mend this, then start again"
        return UserError(f"{self.path}: cannot be written: {full or error.strerror}; {advice}")


def repair(paths: RunPaths) -> None:
    """Take out the lines that crashes or full disks have torn in the segments of a run; each such file is told."""
    for path in sorted((paths.folder / "attempts").glob("*/log.json")):
        if repair_log(path):
            sys.stderr.write(f"{path}: a torn line was taken out\n")


def attempt_row(
    spec: RunSpec,
    *,
    attempt: int,
    time: float,
    step: int,
    env_info: dict[str, Any],
    code: dict[str, Any] | None,
    matrix: str | None,
    **more: Any,
) -> dict[str, Any]:
    """What an attempt says of itself, the first row of its segment; `more` adds to that or stands above it.

    time: when it began, seconds since 1970. step: the iterations before it. code: a provenance.Code; None where it is
    not known. matrix: the stored matrix file that it was submitted with.
    """
    return {
        "mode": "attempt",
        "attempt": attempt,
        "time": time,
        "step": step,
        "code": code,
        "matrix": matrix,
        "env_info": env_info,
        "seed": spec.seed,
        "exp_name": spec.name,
        "precision": spec.precision,
        "config": json.dumps(to_dict(spec.executed)),
        **more,
    }
