"""The journal: the append-only log of one attempt, in the published field names, flushed line by line.

One attempt writes one segment and nothing else writes it, so a superseded attempt cannot interleave.
"""

import json
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FSYNC_SECONDS = 30.0


class Journal:
    """Appends JSON lines to a segment. A line is handed to the system at once, and to the disk by a timer's thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _repair(path)
        self._file = path.open("a", encoding="utf-8")
        self._done = threading.Event()
        self._timer = threading.Thread(target=self._sync_regularly, name="journal-fsync", daemon=True)
        self._timer.start()

    def write(self, row: dict[str, Any]) -> None:
        """Append one row, stamped with the time (`stamp`, seconds since 1970)."""
        self._file.write(json.dumps(row | {"stamp": round(time.time(), 3)}) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Return when all rows are on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Bring everything to the disk and end the timer."""
        self._done.set()
        self._timer.join()
        self.sync()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _sync_regularly(self) -> None:
        while not self._done.wait(FSYNC_SECONDS):
            self.sync()


def _repair(path: Path) -> None:
    """Cut off a last line that a crash left without its end."""
    if not path.exists():
        return
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        with path.open("r+b") as file:
            file.truncate(end)
