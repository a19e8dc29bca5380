"""What a submit to SLURM costs: SLURM_CONF=... python tests/benchmarks/bench_submit.py [CELLS...] (default 21 42 84).

On the testbed (make slurm-up). Jobs are cancelled at once; at most one of them starts. Imports are not counted.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from growth import show_growth
from many import MATRIX

from harness.data.shapes import generate_shapes
from harness.launching import slurm_submit
from harness.launching.slurm_ask import ask
from harness.launching.submit import submit
from harness.matrix import load_experiment
from harness.planning.plan import plan_of
from harness.settings import load_settings

CLUSTER = """\
partition: gpu
account: lab
gpus_per_node: 1
cpus_per_gpu: 1
memory_gb: 4
minutes: 60
array_parallelism: 1
"""


def main() -> None:
    """A line for each number of cells."""
    print(f"{'cells':>5} {'sbatch':>7} {'process s':>10} {'wall s':>7}")
    taken = []
    for wanted in map(int, sys.argv[1:] or ("21", "42", "84")):
        place = Path(tempfile.mkdtemp())
        try:
            taken.append(measure(place, wanted))
        finally:
            for array in (place / "runs" / ".slurm").glob("*"):
                ask(["scancel", "--quiet", f"--name={array.name}"])
            shutil.rmtree(place)
    show_growth("submit", "cells", taken, target=(84, 10.0))


def measure(folder: Path, wanted: int) -> tuple[int, float]:
    """Submit as many cells, with the plan that `harness submit` makes of them; how many, and the wall time."""
    generate_shapes(folder / "shapes", train=2, val=2, size=64)
    (folder / "harness.toml").write_text(f'cache_root = "cache"\n[datasets.shapes]\nroot = "{folder}/shapes"\n')
    (folder / "many.yaml").write_text(MATRIX.format(seeds=[0]))
    (folder / "here.yaml").write_text(CLUSTER)
    settings = replace(load_settings(folder, {}), cluster=str(folder / "here.yaml"))
    loaded = load_experiment(folder / "many.yaml")
    loaded = replace(loaded, cells=loaded.cells[:wanted])
    asked: list[Sequence[str]] = []

    def counted(command: Sequence[str], *environ: Any) -> str:
        asked.append(command)
        return ask(command, *environ)

    slurm_submit.ask = counted  # type: ignore[assignment]
    began, cpu = time.perf_counter(), time.process_time()
    submit(loaded, settings, approve=lambda decisions: plan_of(loaded, settings, decisions))
    process, wall = time.process_time() - cpu, time.perf_counter() - began
    calls = sum(command[0] == "sbatch" for command in asked)
    print(f"{len(loaded.cells):>5} {calls:>7} {process:>10.2f} {wall:>7.2f}", flush=True)
    return len(loaded.cells), wall


if __name__ == "__main__":
    main()
