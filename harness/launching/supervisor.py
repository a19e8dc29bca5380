"""The local launcher: one detached process a run root, which feeds submitit's local executor.

submitit alone would start everything at once, give each job two minutes, and end with the caller's session. The
supervisor starts at most `jobs` runs at a time, in the order they were queued, each with its own time limit and GPUs.
All it knows is on disk: killed, it goes on when it is started again, and counts runs that still live.
"""

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.errors import UserError
from harness.failures import Failure
from harness.files import read_json, write_json
from harness.launching import restarts
from harness.launching.frozen_code import (
    Submission,
    code_folder,
    python_path,
    read_submission,
    require_sound,
    write_submission,
)
from harness.leases import Lease, LeaseLost, acquire, is_held
from harness.runs import (
    STARTING,
    RunPaths,
    State,
    last_attempt,
    next_attempt,
    read_spec,
    read_state,
    settle,
    write_state,
)

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

    @property
    def enqueueing(self) -> Path:
        """The lease of whoever decides what to queue."""
        return self.folder / "enqueueing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A queued run."""

    folder: str  # of the run
    minutes: int  # its time limit
    gpus: int  # a process each; 0: one process on the CPU
    attempts: int  # the run had when it was queued


def enqueue(home: Home, paths: RunPaths, submission: Submission, *, minutes: int, gpus: int) -> None:
    """Queue a run, whatever job it had."""
    paths.job.unlink(missing_ok=True)
    write_submission(paths, submission)
    write_state(paths, State.QUEUED, attempt=read_state(paths).attempt)
    name = f"{time.time_ns():020d}-{paths.folder.name[-40:]}.json"
    job = Job(folder=str(paths.folder.resolve()), minutes=minutes, gpus=gpus, attempts=last_attempt(paths))
    write_json(home.queue / name, asdict(job))


def queued_folders(home: Home) -> set[str]:
    """The folders of the runs that wait in the queue."""
    return {job.folder for job in map(_job, _waiting(home)) if job}


def withdraw(home: Home, paths: RunPaths) -> bool:
    """Take a run out of the queue; whether it was there."""
    folder = str(paths.folder.resolve())
    entries = [entry for entry in _waiting(home) if (job := _job(entry)) and job.folder == folder]
    for entry in entries:
        entry.unlink(missing_ok=True)
    return bool(entries)


def lives(home: Home) -> bool:
    """Whether there is a supervisor."""
    return is_held(home.lease)


def start_detached(home: Home, *, code: Path, jobs: int, threads: int, tracking_uri: str) -> None:
    """Start a supervisor, which runs a copy of the code, in a session of its own.

    Where one lives already, the new one leaves at once.
    """
    home.folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "harness.launching.supervisor", str(home.run_root), str(jobs), tracking_uri]
    with home.log.open("ab") as log:
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": python_path(code)},
            start_new_session=True,
        )


def supervise(home: Home, *, jobs: int, tracking_uri: str) -> None:
    """Work through the queue; return when it is empty and nothing runs, or where another supervisor lives.

    A run that is queued while this one leaves is not lost: the queue is looked at once more after the lease is given
    back, and whoever queued it starts a supervisor after queueing.
    """
    while (lease := acquire(home.lease)) is not None:
        try:
            _work_through(home, lease, jobs=jobs, tracking_uri=tracking_uri)
        except LeaseLost:
            return
        finally:
            lease.release()
        if not _waiting(home):
            return


def _work_through(home: Home, lease: Lease, *, jobs: int, tracking_uri: str) -> None:
    while True:
        lease.renew()
        working = _at_work(home)
        waiting = _waiting(home)
        if not waiting and not working:
            return
        for entry in waiting[: max(0, jobs - len(working))]:
            _take(entry, home, tracking_uri)
        time.sleep(POLL_SECONDS)


def _waiting(home: Home) -> list[Path]:
    return sorted(home.queue.glob("*.json"))


def _job(entry: Path) -> Job | None:
    """The queued run, or None where the entry has just been taken."""
    try:
        return Job(**json.loads(entry.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _at_work(home: Home) -> list[RunPaths]:
    """The runs with a living process on this machine, whoever started it; those that died without a word are FAILED."""
    working = []
    for file in home.run_root.glob("*/*/state.json"):
        paths = RunPaths(file.parent)
        try:
            found = settle(paths)
        except UserError:  # of another run, perhaps: status tells
            continue
        if found.host == socket.gethostname() and found.state == State.RUNNING:
            working.append(paths)
    return working


def _take(entry: Path, home: Home, tracking_uri: str) -> None:
    """Start a queued run. One that cannot be started has failed; the others go on.

    One whose start has been tried before, by a supervisor that did not live to say so, is subject to restarts.py.
    """
    asked = _job(entry)
    if asked is None:
        return
    paths = RunPaths(Path(asked.folder))
    try:
        if last_attempt(paths) > asked.attempts and (why := restarts.stuck(paths)):
            raise UserError(why, failure=Failure.UNKNOWN)
        if read_state(paths).state == State.QUEUED:
            _start(asked, paths, _free_gpus(home, asked.gpus), tracking_uri)
    except Exception as error:
        _say(f"{paths.folder.name}: cannot be started: {error}")
        kind = error.failure if isinstance(error, UserError) else Failure.BUG
        reason = f"cannot be started: {error}"
        write_state(paths, State.FAILED, attempt=read_state(paths).attempt, reason=reason, kind=kind)
    entry.unlink(missing_ok=True)


def _python(paths: RunPaths) -> str:
    """The Python for a run, as words of a shell: one that runs the copy of the code that the run works with.

    Raises UserError where that copy is not sound.
    """
    submission, run_root = read_submission(paths), paths.folder.parent.parent
    assert submission is not None
    require_sound(run_root, [submission.code])
    path = python_path(code_folder(run_root, submission.code))
    return shlex.join(["env", f"PYTHONPATH={path}", sys.executable, "-P"])


def _start(asked: Job, paths: RunPaths, gpus: list[int], tracking_uri: str) -> None:
    """Start a run through submitit, and say so in its state before anything else can."""
    import submitit

    from harness.launching.job import run_attempt

    python = _python(paths)
    attempt = next_attempt(paths)
    write_json(_gpu_file(paths, attempt), gpus)
    executor = submitit.LocalExecutor(folder=paths.attempt(attempt) / "submitit", python=python)
    executor.update_parameters(
        timeout_min=asked.minutes,
        tasks_per_node=max(1, len(gpus)),
        gpus_per_node=len(gpus),
        visible_gpus=gpus,
        stderr_to_stdout=True,
    )
    job = executor.submit(run_attempt, paths.folder, tracking_uri, attempt=attempt)
    write_state(paths, State.RUNNING, attempt=attempt, progress=STARTING, pid=int(job.job_id))
    _say(f"{read_spec(paths).name}: attempt {attempt} is process {job.job_id}")


def _free_gpus(home: Home, count: int) -> list[int]:
    """`count` GPUs of this machine (of CUDA_VISIBLE_DEVICES, where that is set) that no run at work was given.

    submitit would give every job the first ones.
    """
    taken: set[int] = set()
    for paths in _at_work(home):
        file = _gpu_file(paths, read_state(paths).attempt)
        taken.update(read_json(file) if file.exists() else [])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    known = [int(gpu) for gpu in visible.split(",")] if visible else range(count + len(taken))
    return [gpu for gpu in known if gpu not in taken][:count]


def _gpu_file(paths: RunPaths, attempt: int) -> Path:
    return paths.attempt(attempt) / "gpus.json"


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def main() -> None:
    """Entry: RUN_ROOT JOBS TRACKING_URI."""
    run_root, jobs, tracking_uri = sys.argv[1:]
    supervise(Home(Path(run_root)), jobs=int(jobs), tracking_uri=tracking_uri)


if __name__ == "__main__":
    main()
