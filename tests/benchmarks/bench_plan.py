"""What `harness plan` costs with many runs: python tests/benchmarks/bench_plan.py [RUNS...] (default 250, 500, 1000).

Once with new runs alone; once with a third of them finished and a third stopped halfway, with journals as long as
a published schedule's. The second plan counts, and imports do not. The growth is of the wall time.
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
from harness.matrix import Experiment, load_experiment
from harness.planning.plan import make_plan
from harness.run_state import State, write_state
from harness.settings import Settings, load_settings

EACH, LOGGED = 7330, 50


def main() -> None:
    """A line for each number of runs, and each state of them."""
    print(f"{'runs':>5} {'of them new':>11} {'process s':>10} {'wall s':>7} {'ms a run':>9}")
    new, mixed = [], []
    for wanted in map(int, sys.argv[1:] or ("250", "500", "1000")):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            matrix = write_place(folder, wanted)
            settings, experiment = load_settings(folder, {}), load_experiment(matrix)
            new.append(measure(experiment, settings))
            segment = folder / "segment"
            segment.write_text("".join(f"{json.dumps(row)}\n" for row in journal()))
            for number, run in enumerate(prepare(experiment, settings)):
                if state := (None, State.FINISHED, State.KILLED)[number % 3]:
                    generate(run, state, segment)
            mixed.append(measure(experiment, settings))
    show_growth("plan of new runs", "runs", new, target=(1000, 1.0))
    show_growth("plan of runs in all states", "runs", mixed, target=(1000, 1.0))


def measure(experiment: Experiment, settings: Settings) -> tuple[int, float]:
    """Plan twice, print the times of the second plan; how many runs, and its wall time."""
    for _ in range(2):
        began, cpu = time.perf_counter(), time.process_time()
        plan = make_plan(load_experiment(experiment.path), settings)
        process, wall = time.process_time() - cpu, time.perf_counter() - began
    runs, new = len(plan.runs), Counter(run.state for run in plan.runs)["NEW"]
    print(f"{runs:>5} {new:>11} {process:>10.2f} {wall:>7.2f} {1000 * process / runs:>9.2f}", flush=True)
    return runs, wall


def generate(run: PreparedRun, state: State, segment: Path) -> None:
    """A run of one attempt, whose journal is a hard link."""
    write(run)
    run.paths.attempt(1).mkdir(parents=True)
    os.link(segment, run.paths.segment(1))
    write_json(run.paths.checkpoints / "latest.json", [{"file": "x", "sha256": "0", "epoch": 5, "step": 5 * EACH}])
    write_state(run.paths, state, attempt=1)
    if state == State.FINISHED:
        write_json(run.paths.result, {})


def journal() -> Iterator[dict[str, Any]]:
    """Five and a half epochs of COCO."""
    hardware = {"device": "GPU", "count": 1}
    began = {"time": 0.0, "step": 0, "steps": 12 * EACH, "world": 1, "device": "cpu"}
    yield {"mode": "attempt", "attempt": 1, **began, "env_info": {"hardware": hardware}, "config": "y" * 3000}
    losses = {f"loss_{part}": 1 / 3 for part in range(6)}
    for step in range(LOGGED, 5 * EACH + EACH // 2, LOGGED):
        epoch, iteration = divmod(step, EACH)
        place = {"epoch": epoch + 1, "iter": iteration, "step": step, "lr": 0.02}
        yield {"mode": "train", **place, "memory": 3000, **losses, "loss": 0.6, "time": 0.35, "data_time": 0.01}


if __name__ == "__main__":
    main()
