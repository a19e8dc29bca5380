"""What a journal row costs the training: python tests/benchmarks/bench_journal.py [FOLDER].

Undisturbed, while a thread brings the rows to the disk all the time, and in journals that are long already.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from growth import show_growth

from harness.training import journal
from harness.training.journal import Journal

ROWS = 2000
BEFORE = (2000, 20_000, 200_000)
"""Rows of a journal; a published schedule has 2,000 (1x) to 5,000 (3x)."""
ROW = {"mode": "train", "epoch": 1, "iter": 50, "lr": 0.02, "memory": 3000} | {
    f"loss_{part}": 1 / 3 for part in range(12)
}


def main() -> None:
    """Time the writing of rows, 5 ms apart, undisturbed and while a thread brings them to the disk all the time."""
    print(f"{'microseconds a row':32}{'median':>10}{'90 %':>10}{'99 %':>10}{'longest':>10}")
    for name, seconds in (("fsync every 30 s", 30.0), ("fsync without a pause", 0.0)):
        journal.FSYNC_SECONDS = seconds
        with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as folder:
            times = sorted(timed(Path(folder) / "log.json"))
        values = [statistics.median(times), times[ROWS * 9 // 10], times[ROWS * 99 // 100], times[-1]]
        print(f"{name:32}" + "".join(f"{value * 1e6:10.0f}" for value in values))
    journal.FSYNC_SECONDS = 30.0
    taken = []
    for before in BEFORE:
        with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as folder:
            taken.append((before, statistics.median(timed(Path(folder) / "log.json", before=before))))
    show_growth("a row of a journal that has", "rows", taken, target=(BEFORE[0], 0.001))


def timed(path: Path, *, before: int = 0) -> list[float]:
    """Seconds of each row after the first `before` of a journal."""
    times = []
    path.write_text(f"{json.dumps(ROW)}\n" * before)
    with Journal(path) as log:
        for step in range(ROWS):
            began = time.perf_counter()
            log.write(ROW | {"step": step})
            times.append(time.perf_counter() - began)
            time.sleep(0.005)
    return times


if __name__ == "__main__":
    main()
