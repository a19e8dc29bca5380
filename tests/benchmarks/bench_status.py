"""What `harness status` costs with many runs: python tests/benchmarks/bench_status.py [RUNS...] (default 250 500 1000).

The runs are generated: in every state, with journals as long as a published schedule's. Imports are not counted.
The growth is of the wall time.
"""

import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from growth import show_growth
from many import write_place

from harness.files import write_json
from harness.launching.prepare import PreparedRun, prepare, write
from harness.launching.status import status_rows
from harness.matrix import load_experiment
from harness.run_state import State, write_state
from harness.settings import load_settings
from harness.tracking.cursor import Cursor, save
from harness.tracking.repair import repair
from harness.tracking.snapshot import STATUS
from harness.tracking.store import shown

EACH, LOGGED = 7330, 50
STATES = (State.RUNNING, State.FINISHED, State.FINISHED, State.QUEUED, State.FAILED)


def main() -> None:
    """For each number of runs what a look takes, and how it grows."""
    taken = [measure(int(wanted)) for wanted in sys.argv[1:] or (250, 500, 1000)]
    show_growth("status", "runs", taken, target=(1000, 2.0))


def measure(wanted: int) -> tuple[int, float]:
    """Generate runs, look twice, print process and wall time of the second look; how many runs, and its wall time.

    wanted: how many, up to a multiple of the number of cells.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        matrix = write_place(folder, wanted)
        settings = load_settings(folder, {})
        runs = prepare(load_experiment(matrix), settings)
        segment = folder / "segment"
        segment.write_text("".join(f"{json.dumps(row)}\n" for row in journal()))
        for number, run in enumerate(runs):
            generate(run, STATES[number % len(STATES)], segment, settings.tracking_uri)
        print(f"{len(runs)} runs, {segment.stat().st_size / 1024:.0f} KB of journal each")
        for _ in range(2):
            began, cpu = time.perf_counter(), time.process_time()
            loaded = load_experiment(matrix)
            read = time.process_time()
            rows = status_rows(loaded, settings)
            looked = time.process_time()
            repair((run.paths for run in runs), settings.tracking_uri, print)
            repaired = time.process_time()
            times = (read - cpu, looked - read, repaired - looked)
        counts = dict(Counter(row.state for row in rows))
        wall = time.perf_counter() - began
        shares = "matrix {:.2f}, status {:.2f}, MLflow's word {:.2f}".format(*times)
        print(f"{counts}\nprocess time {sum(times):.2f} s ({shares}), wall time {wall:.2f} s")
        return len(runs), wall


def generate(run: PreparedRun, state: State, segment: Path, uri: str) -> None:
    """A run of one attempt in a state, the journal being a hard link."""
    write(run)
    run.paths.attempt(1).mkdir(parents=True)
    os.link(segment, run.paths.segment(1))
    write_json(run.paths.attempt(1) / "start.json", {"checkpoint": None})
    write_json(
        run.paths.checkpoints / "latest.json", [{"file": "epoch_5.pth", "sha256": "0", "epoch": 5, "step": 36650}]
    )
    write_state(run.paths, state, attempt=1, progress="epoch 6/12" if state == State.RUNNING else "")
    status = f"{STATUS[state]} {time.time()}" if state.ended else STATUS[state]
    save(run.paths, Cursor(uri=shown(uri), mirror="0", status=status))
    if state == State.FINISHED:
        write_json(run.paths.result, {"metrics": {"bbox_mAP": 0.38, "segm_mAP": 0.35}})


def journal() -> Iterator[dict[str, Any]]:
    """Five and a half epochs of COCO."""
    versions = {f"package{number}": "x" * 40 for number in range(20)}
    began = {"time": time.time() - 3600, "step": 0, "steps": 12 * EACH, "world": 8, "device": "cuda"}
    yield {"mode": "attempt", "attempt": 1, **began, "env_info": {"versions": versions}, "config": "y" * 3000}
    losses = {f"loss_{part}": 1 / 3 for part in range(6)}
    for step in range(LOGGED, 5 * EACH + EACH // 2, LOGGED):
        epoch, iteration = divmod(step, EACH)
        place = {"epoch": epoch + 1, "iter": iteration, "step": step, "lr": 0.02}
        yield {"mode": "train", **place, "memory": 3000, **losses, "loss": 0.6, "time": 0.35, "data_time": 0.01}
        if iteration < LOGGED and epoch:
            yield {"mode": "val", **place, "epoch": epoch, "bbox_mAP": 0.3, "segm_mAP": 0.28}


if __name__ == "__main__":
    main()
