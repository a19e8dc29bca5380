"""The local launcher: one detached process a run root, which feeds submitit's local executor.

submitit alone would start everything at once, give each job two minutes, and end with the caller's session. The
supervisor starts at most `jobs` runs at a time, in the order they were queued, each with its own time limit and GPUs.
All it knows is on disk: killed, it goes on when it is started again, and counts runs that still live.
"""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from harness.errors import UserError
from harness.failures import Failure
from harness.files import read_json, write_json
from harness.launching import restarts
from harness.launching.frozen_code import code_folder, read_submission, require_sound
from harness.launching.local_queue import Home, Job, gpu_file, queued_job, waiting
from harness.leases import SECONDS, Lease, LeaseLost, acquire, is_held, is_held_elsewhere
from harness.processes import is_here
from harness.provenance import python_path
from harness.run_paths import RunPaths, last_attempt, next_attempt
from harness.run_spec import read_spec
from harness.run_state import STARTING, State, read_state, settle, write_state

POLL_SECONDS = 1.0


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
    while (lease := _lease(home)) is not None:
        try:
            _work_through(home, lease, jobs=jobs, tracking_uri=tracking_uri)
        except LeaseLost:
            return
        finally:
            lease.release()
        if not waiting(home):
            return


def _lease(home: Home) -> Lease | None:
    """To be the supervisor; None where another one lives. Of one elsewhere only its lease tells, which may expire."""
    until = time.monotonic() + SECONDS + POLL_SECONDS
    while (lease := acquire(home.lease)) is None and is_held_elsewhere(home.lease) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
    return lease


def _work_through(home: Home, lease: Lease, *, jobs: int, tracking_uri: str) -> None:
    while True:
        lease.renew()
        working = _at_work(home)
        entries = waiting(home)
        if not entries and not working:
            return
        busy = {str(paths.folder.resolve()) for paths in working}
        free = [entry for entry in entries if (job := queued_job(entry)) and job.folder not in busy]
        for entry in free[: max(0, jobs - len(working))]:
            _take(entry, home, tracking_uri)
        time.sleep(POLL_SECONDS)


def _at_work(home: Home) -> list[RunPaths]:
    """The runs with a living process on this machine, whoever started it; those that died without a word are FAILED."""
    working = []
    for file in home.run_root.glob("*/*/state.json"):
        paths = RunPaths(file.parent)
        try:
            found = settle(paths)
        except UserError:  # of another run, perhaps: status tells
            continue
        if found.state == State.RUNNING and is_here(found):
            working.append(paths)
    return working


def _take(entry: Path, home: Home, tracking_uri: str) -> None:
    """Start a queued run. One that cannot be started has failed; the others go on.

    One that was started before, by a supervisor that did not live to say so, or until its time was over, is subject to
    restarts.py.
    """
    asked = queued_job(entry)
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


def _python(paths: RunPaths, gpus: list[str]) -> str:
    """The Python for a run, as words of a shell: one that runs the copy of the code that the run works with.

    It sees these GPUs alone; submitit could say so only of numbers.
    Raises UserError where that copy is not sound.
    """
    submission, run_root = read_submission(paths), paths.folder.parent.parent
    assert submission is not None
    require_sound(run_root, [submission.code])
    path = python_path(code_folder(run_root, submission.code))
    environ = {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ",".join(gpus), "SUBMITIT_LOG_LEVEL": "WARNING"}
    return shlex.join(["env", *(f"{name}={value}" for name, value in environ.items()), sys.executable, "-P"])


def _start(asked: Job, paths: RunPaths, gpus: list[str], tracking_uri: str) -> None:
    """Start a run through submitit, and say so in its state before anything else can."""
    import submitit

    from harness.launching.job import run_attempt

    python = _python(paths, gpus)
    attempt = next_attempt(paths)
    write_json(gpu_file(paths, attempt), gpus)
    executor = submitit.LocalExecutor(folder=paths.attempt(attempt) / "submitit", python=python)
    executor.update_parameters(
        timeout_min=asked.minutes,
        tasks_per_node=max(1, len(gpus)),
        stderr_to_stdout=True,
    )
    job = executor.submit(run_attempt, paths.folder, tracking_uri, attempt=attempt)
    write_state(paths, State.RUNNING, attempt=attempt, progress=STARTING, pid=int(job.job_id))
    _say(f"{read_spec(paths).name}: attempt {attempt} is process {job.job_id}")


def _free_gpus(home: Home, count: int) -> list[str]:
    """`count` GPUs of this machine that no run at work was given.

    They are named as CUDA_VISIBLE_DEVICES does, where that is set: by numbers, or as GPU-... and MIG-...
    """
    taken: set[str] = set()
    for paths in _at_work(home):
        file = gpu_file(paths, read_state(paths).attempt)
        taken.update(map(str, read_json(file)) if file.exists() else [])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").replace(" ", "")
    known = visible.split(",") if visible else map(str, range(count + len(taken)))
    return [gpu for gpu in known if gpu not in taken][:count]


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def main() -> None:
    """Entry: RUN_ROOT JOBS TRACKING_URI."""
    run_root, jobs, tracking_uri = sys.argv[1:]
    supervise(Home(Path(run_root)), jobs=int(jobs), tracking_uri=tracking_uri)


if __name__ == "__main__":
    main()
