"""What an attempt has written to its output: where that is, and following it until the run has ended."""

import glob
import time
from collections.abc import Callable
from pathlib import Path

from harness.errors import UserError
from harness.files import find_json
from harness.launching.job_file import Job, read_job
from harness.launching.slurm_ask import QUEUE_SECONDS
from harness.launching.standings import standings
from harness.run_paths import RunPaths, last_attempt
from harness.run_state import RunState, read_state

POLL_SECONDS = 0.5
LAST_WORDS = 2.0
"""Seconds for which a run that has ended may still write something, such as its traceback."""


def output_file(paths: RunPaths, attempt: int) -> Path | None:
    """The file with the output of an attempt; None where there is none, as of one in the foreground."""
    job = read_job(paths)
    own = find_json(paths.attempt(attempt) / "job.json", {"id": job.id if job else None})
    return output_of(paths, attempt, job, own["id"])


def output_of(paths: RunPaths, attempt: int, job: Job | None, mine: str | None) -> Path | None:
    """The same, where the job that has the run, and the id of the attempt's own, are known.

    All starts of a SLURM job write to one file, the attempts that were requeues of it one after the other.
    """
    if job and job.output and job.id == mine:
        return Path(job.output)
    if mine is not None:  # a job that had the run before
        name = f"{glob.escape(paths.folder.parent.name)}-*/{mine}.out"
        return next(iter((paths.folder.parent.parent / ".slurm").glob(name)), None)
    folder = paths.attempt(attempt) / "submitit"
    return next(iter(sorted(folder.glob("*.out"))), None) if folder.is_dir() else None


def find(paths: RunPaths, attempt: int | None) -> Path:
    """The file with the output of an attempt; None: of the last one.

    Raises UserError where there is no such attempt, or none has written to a file.
    """
    last = last_attempt(paths)
    if attempt is not None and attempt > last:
        raise UserError(f"{paths.folder}: no attempt {attempt}; its last one is {last}")
    file = output_file(paths, last if attempt is None else attempt)
    if file is None or not file.exists():
        state = read_state(paths)
        yet = "" if state.state.ended else " yet"
        raise UserError(f"{paths.folder}: no output{yet}: {state.state} {state.reason or state.progress}".rstrip())
    return file


def follow(paths: RunPaths, say: Callable[[bytes], object], note: Callable[[str], object]) -> RunState:
    """Say what the run writes, from the beginning of its last attempt's output, until it has ended; how it did.

    note gets a line where the run goes on in another file, and where its job waits.
    """
    file, place, told = None, 0, ""
    asked = changed = float("-inf")
    seen: tuple[object, ...] = ()
    while True:
        now, state = time.monotonic(), read_state(paths)
        if now - asked > QUEUE_SECONDS:
            (standing,) = standings([paths], patient=True)
            state, asked = standing.state, now
            if standing.text not in ("", told):
                note(standing.text)
            told = standing.text
        if (current := output_file(paths, last_attempt(paths))) not in (None, file):
            file, place = current, 0
            note(f"{current}:")
        place = pass_on(file, place, say) if file else 0
        if seen != (state.state, file, place):
            seen, changed = (state.state, file, place), now
        if state.state.ended and now - changed > LAST_WORDS:
            return state
        time.sleep(POLL_SECONDS)


def pass_on(file: Path, place: int, say: Callable[[bytes], object]) -> int:
    """Say what was written since `place`; where that ends."""
    if not file.exists():
        return place
    with file.open("rb") as stream:
        stream.seek(place)
        while text := stream.read(1 << 20):
            say(text)
        return stream.tell()
