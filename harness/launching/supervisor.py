"""The local launcher: one detached process a run root, which feeds submitit's local executor.

submitit alone would start everything at once, give each job two minutes, and end with the caller's session. The
supervisor starts at most `jobs` runs at a time, in the order they were queued, each with its own time limit. What it
knows is on disk: killed, it goes on when it is started again, and counts runs that still live.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.files import read_json, write_json
from harness.leases import Lease, acquire
from harness.runs import RunPaths, State, next_attempt, read_spec, read_state, write_state

POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Home:
    """The supervisor's files in a run root."""

    run_root: Path

    @property
    def folder(self) -> Path:
        """Hidden beside the experiments."""
        return self.run_root / ".supervisor"

    @property
    def lease(self) -> Path:
        """Who is the supervisor."""
        return self.folder / "lease"

    @property
    def log(self) -> Path:
        """What it said."""
        return self.folder / "log.txt"

    @property
    def queue(self) -> Path:
        """An entry a queued run; the names sort in the order of queueing."""
        return self.folder / "queue"


def enqueue(home: Home, paths: RunPaths, *, minutes: int, gpus: int) -> None:
    """Queue a run, to be started with this time limit and a process a GPU (0: one process on the CPU)."""
    write_state(paths, State.QUEUED, attempt=read_state(paths).attempt)
    name = f"{time.time_ns():020d}-{paths.folder.name[-40:]}.json"
    write_json(home.queue / name, {"folder": str(paths.folder.resolve()), "minutes": minutes, "gpus": gpus})


def start_detached(home: Home, *, jobs: int, threads: int, tracking_uri: str) -> None:
    """Start a supervisor in a session of its own. Where one lives already, the new one leaves at once."""
    home.folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "harness.launching.supervisor", str(home.run_root), str(jobs), str(threads)]
    with home.log.open("ab") as log:
        subprocess.Popen(
            [*command, tracking_uri], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def supervise(home: Home, *, jobs: int, tracking_uri: str) -> None:
    """Work through the queue; return when it is empty and nothing runs, or where another supervisor lives.

    A run that is queued while this one leaves is not lost: the queue is looked at once more after the lease is given
    back, and whoever queued it starts a supervisor after queueing.
    """
    while (lease := acquire(home.lease)) is not None:
        try:
            _work_through(home, lease, jobs=jobs, tracking_uri=tracking_uri)
        finally:
            lease.release()
        if not _waiting(home):
            return


def _work_through(home: Home, lease: Lease, *, jobs: int, tracking_uri: str) -> None:
    running: list[tuple[Any, RunPaths]] = []
    while True:
        lease.renew()
        running = [(job, paths) for job, paths in running if not _ended(job, paths)]
        for entry in _waiting(home)[: max(0, jobs - _busy(home, running))]:
            started = _start(entry, tracking_uri)
            entry.unlink(missing_ok=True)
            if started:
                running.append(started)
        if not running and not _waiting(home) and _busy(home, running) == 0:
            return
        time.sleep(POLL_SECONDS)


def queued_folders(home: Home) -> set[str]:
    """The folders of the runs that wait in the queue."""
    return {str(read_json(entry)["folder"]) for entry in _waiting(home)}


def _waiting(home: Home) -> list[Path]:
    return sorted(home.queue.glob("*.json"))


def _busy(home: Home, running: list[tuple[Any, RunPaths]]) -> int:
    """Runs at work: this supervisor's, and those that outlived an earlier one."""
    mine = {paths.folder for _, paths in running}
    others = (RunPaths(spec.parent) for spec in home.run_root.glob("*/*/run.json"))
    return len(mine) + sum(p.folder not in mine and read_state(p).state == State.RUNNING for p in others)


def _start(entry: Path, tracking_uri: str) -> tuple[Any, RunPaths] | None:
    """Start one queued run through submitit, and say so in its state before anything else can."""
    import submitit

    from harness.launching.job import run_attempt

    asked = read_json(entry)
    paths = RunPaths(Path(asked["folder"]))
    if read_state(paths).state != State.QUEUED:
        return None
    attempt = next_attempt(paths)
    executor = submitit.LocalExecutor(folder=paths.attempt(attempt) / "submitit")
    executor.update_parameters(
        timeout_min=asked["minutes"],
        tasks_per_node=max(1, asked["gpus"]),
        gpus_per_node=asked["gpus"],
        stderr_to_stdout=True,
    )
    job = executor.submit(run_attempt, paths.folder, tracking_uri, attempt=attempt)
    write_state(paths, State.RUNNING, attempt=attempt, progress="starting", pid=int(job.job_id))
    _say(f"started {read_spec(paths).name} attempt {attempt} as process {job.job_id}")
    return job, paths


def _ended(job: Any, paths: RunPaths) -> bool:
    if not job.done():
        return False
    found = read_state(paths)
    if not found.state.ended:
        write_state(paths, State.FAILED, attempt=found.attempt, reason="its process ended without a word (killed?)")
    _say(f"{paths.folder.name}: {read_state(paths).state}")
    return True


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def main() -> None:
    """Entry: RUN_ROOT JOBS THREADS TRACKING_URI."""
    run_root, jobs, threads, tracking_uri = sys.argv[1:]
    os.environ["OMP_NUM_THREADS"] = threads
    supervise(Home(Path(run_root)), jobs=int(jobs), tracking_uri=tracking_uri)


if __name__ == "__main__":
    main()
