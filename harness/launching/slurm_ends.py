"""How a job ended, as SLURM tells it: of jobs that did not live to say so themselves.

The job's own state hides much: a step that the kernel killed for want of memory leaves the job FAILED, with the exit
code of srun. What tells is the worst end of its steps, DerivedExitCode, where 0:125 is SLURM's word for that.
"""

import signal
from dataclasses import dataclass

from harness.failures import Failure
from harness.launching.ends import STOPPED
from harness.launching.slurm import Phase, parse_job, phase, rows

_FIELDS = ("JobID", "State", "ExitCode", "DerivedExitCode", "NodeList", "JobName")
TELLING = {
    "OUT_OF_MEMORY": Failure.MEMORY,
    "TIMEOUT": Failure.TIME,
    "DEADLINE": Failure.TIME,
    "NODE_FAIL": Failure.NODE,
    "BOOT_FAIL": Failure.NODE,
    "CANCELLED": Failure.CANCELLED,
    "PREEMPTED": Failure.CANCELLED,
}
"""The states that say all there is to know."""
REQUEUED = "REQUEUED"
"""How a start ended that somebody took back; the job waits again."""
_SIGNALS = {
    125: Failure.MEMORY,
    signal.SIGKILL: Failure.UNKNOWN,  # by whom?
    signal.SIGBUS: Failure.NODE,
    signal.SIGTERM: Failure.CANCELLED,
    signal.SIGINT: Failure.CANCELLED,
}
_CODES = {
    0: Failure.UNKNOWN,
    2: Failure.MISTAKE,
    9: Failure.UNKNOWN,  # srun's, of a process that was killed -9
    70: Failure.HANG,
    126: Failure.MISTAKE,
    127: Failure.MISTAKE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """The end of one start of a job."""

    state: str  # one word
    exit_code: int  # of the step that ended worst
    signal: int
    nodes: str  # as SLURM writes them: n[1-4]

    @property
    def kind(self) -> Failure:
        """What kind of failure it was."""
        if self.state in TELLING:
            return TELLING[self.state]
        if self.state == REQUEUED:
            return Failure.CANCELLED
        if self.signal:
            return _SIGNALS.get(self.signal, Failure.BUG)
        return _CODES.get(self.exit_code, Failure.BUG)

    def __str__(self) -> str:
        if self.state in (*TELLING, REQUEUED):
            return self.state
        if self.kind == Failure.MEMORY:
            return f"{self.state} (out of memory)"
        return f"{self.state} ({f'signal {self.signal}' if self.signal else f'exit code {self.exit_code}'})"


def show_command(job: str) -> list[str]:
    """scontrol for one job; it forgets ended ones after a while (MinJobAge)."""
    return ["scontrol", "--all", "--details", "--oneliner", "show", "job", job]


def parse_shown(text: str, name: str) -> JobEnd | str | None:
    """What show_command answers: how the job ended, or its state if it has not; None of one of another name."""
    found = parse_job(text)
    state = found.get("JobState", "")
    if not found.get("JobName", "").startswith(name):
        return None
    if phase(state) != Phase.ENDED:
        return state
    return _end(state, found["ExitCode"], found.get("DerivedExitCode", ""), found.get("NodeList", ""))


def ends_command(job: str) -> list[str]:
    """sacct for every start of a job; it trails what happens by seconds."""
    fixed = ["sacct", "--allocations", "--duplicates", "--noheader", "--parsable2", f"--format={','.join(_FIELDS)}"]
    return [*fixed, f"--jobs={job}"]


def parse_ends(text: str, job: str, name: str) -> list[JobEnd | None]:
    """What ends_command answers, a job's starts in order; None for one that has not ended."""
    found = [row for row in rows(text, _FIELDS) if row["JobID"] == job and row["JobName"].startswith(name)]
    return [
        _end(row["State"].split()[0], row["ExitCode"], row["DerivedExitCode"], row["NodeList"])
        if phase(row["State"].split()[0]) == Phase.ENDED or row["State"] == REQUEUED
        else None
        for row in found
    ]


def _end(state: str, own: str, derived: str, nodes: str) -> JobEnd:
    earlier = derived.startswith(f"{STOPPED}:") and own.strip("0:")  # of a start that was requeued: it stays the worst
    worst = derived if derived.strip("0:") and not earlier else own
    code, _, number = (worst or "0:0").partition(":")
    exit_code, killed = int(code), int(number)
    if exit_code > 128 and not killed:  # as a shell tells a signal
        exit_code, killed = 0, exit_code - 128
    known = nodes if nodes not in ("(null)", "None assigned") else ""
    return JobEnd(state=state.split()[0], exit_code=exit_code, signal=killed, nodes=known)
