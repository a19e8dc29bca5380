"""What each process of a SLURM job runs: `python -m harness.launching.slurm_entry RUN_FOLDER NAME_OF_THE_ARRAY`."""

import os
import sys
from pathlib import Path

from harness.launching.ends import STOPPED
from harness.launching.job import USER_ERROR, run_attempt
from harness.launching.job_file import read_job
from harness.launching.requeue import leave_suspects
from harness.launching.slurm import own_job
from harness.run_paths import RunPaths
from harness.run_state import State, read_state


def main() -> int:
    """Work on the run, unless it was given to another job since; the exit code."""
    folder, name = sys.argv[1:]
    paths = RunPaths(Path(folder))
    here, owner = own_job(os.environ), read_job(paths)
    if here is None:
        sys.stderr.write("error: harness.launching.slurm_entry works in a SLURM job; use harness train elsewhere\n")
        return USER_ERROR
    if owner is None or (owner.name, str(owner.index)) != (name, here.id.partition("_")[2]):
        sys.stderr.write(f"error: {folder}: job {here.id} gives way: the run was given to another job, or started\n")
        return USER_ERROR
    if read_state(paths).state == State.FINISHED:  # SLURM lost the node, but the node was working
        return 0
    if os.environ.get("SLURM_PROCID") == "0" and leave_suspects(paths, here):
        return STOPPED
    os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("SLURM_CPUS_PER_TASK", "1"))
    return run_attempt(paths.folder, os.environ["HARNESS_TRACKING_URI"], job=here)


if __name__ == "__main__":
    sys.exit(main())
