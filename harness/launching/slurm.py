"""SLURM's commands, each with a format of our own, and their answers.

The formats exist from 22.05 on; tests/launching/slurm_outputs holds answers of several releases. Names of jobs may hold
anything, so they come last. Times are the cluster's own, without a zone.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

_QUEUE = ("JobArrayID", "JobID", "State", "Reason", "NodeList", "TimeUsed", "StartTime", "RestartCnt", "Name")
_ACCOUNT = ("JobID", "JobIDRaw", "State", "ExitCode", "Start", "End", "ElapsedRaw", "NodeList", "AllocTRES", "JobName")
_NOTHING = ("", "N/A", "None", "None assigned", "Unknown", "(null)", "NONE")


class Phase(StrEnum):
    """What a job's state means for its run."""

    WAITING = "waiting"
    WORKING = "working"
    ENDED = "ended"


_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
_WORKING = {"RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}


def phase(state: str) -> Phase:
    """Of a state as squeue, sacct or scontrol name it."""
    return Phase.WAITING if state in _WAITING else Phase.WORKING if state in _WORKING else Phase.ENDED


_FOR_EVER = re.compile(
    r"Partition(TimeLimit|NodeLimit|Config)|BadConstraints|DependencyNeverSatisfied|JobHeld(User|Admin)|Invalid\w+"
    r"|(Account|QOS)NotAllowed|(QOS|Assoc)(Max\w+Per(Job|Node)(Limit)?|Min\w+)|JobHoldMaxRequeue"
    r"|launch_failed_requeued_held|job_requeued_in_held_state"
)


def waits_for_ever(reason: str) -> bool:
    """Whether a pending job of this reason starts only when somebody changes something."""
    return _FOR_EVER.fullmatch(reason.replace(" ", "_")) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """A job that waits or works; of an array, one element."""

    id: str  # "12", or "12_3": what scontrol, scancel and squeue take, and what never changes
    raw_id: int  # $SLURM_JOB_ID; an element that waits shares its array's
    state: str
    reason: str | None  # why it waits
    nodes: str | None  # as SLURM writes them: n[1-4]
    seconds: int  # worked, since the last start
    start: str | None  # of a job that waits: expected
    restarts: int
    name: str


def queue_command() -> list[str]:
    """squeue for every job of this user, in hidden partitions too."""
    return ["squeue", "--all", "--me", "--array", "--noheader", "--Format", ",".join(f"{name}:|" for name in _QUEUE)]


def parse_queue(text: str) -> list[QueuedJob]:
    """What queue_command answers."""
    jobs = []
    for row in rows(text, _QUEUE):
        jobs.append(
            QueuedJob(
                id=row["JobArrayID"],
                raw_id=int(row["JobID"]),
                state=row["State"],
                reason=value(row["Reason"]),
                nodes=value(row["NodeList"]),
                seconds=seconds(row["TimeUsed"]) or 0,
                start=value(row["StartTime"]),
                restarts=int(row["RestartCnt"]),
                name=row["Name"].removesuffix("|"),
            )
        )
    return jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountedJob:
    """One start of a job, as the accounting knows it: a job that was requeued has several, the oldest first."""

    id: str
    raw_id: int
    state: str  # one word: of "CANCELLED by 0", CANCELLED
    exit_code: int
    signal: int
    start: str | None
    end: str | None
    seconds: int
    nodes: str | None
    gpus: int
    name: str


def accounting_command(jobs: Iterable[str]) -> list[str]:
    """sacct for jobs and arrays, with every start of each. It trails squeue by seconds.

    Where ids have come again, it answers with the old jobs of the same id, too: look at the names.
    """
    fixed = ["sacct", "--allocations", "--duplicates", "--noheader", "--parsable2", f"--format={','.join(_ACCOUNT)}"]
    return [*fixed, f"--jobs={','.join(jobs)}"]


def parse_accounting(text: str) -> list[AccountedJob]:
    """What accounting_command answers, an entry each element of an array, those that wait too."""
    jobs = []
    for row in rows(text, _ACCOUNT):
        exit_code, _, signal = row["ExitCode"].partition(":")
        for one in elements(row["JobID"]):
            job = AccountedJob(
                id=one,
                raw_id=int(row["JobIDRaw"]),
                state=row["State"].split()[0],
                exit_code=int(exit_code),
                signal=int(signal),
                start=value(row["Start"]),
                end=value(row["End"]),
                seconds=int(row["ElapsedRaw"]),
                nodes=value(row["NodeList"]),
                gpus=gpus(row["AllocTRES"]),
                name=row["JobName"],
            )
            jobs.append(job)
    return jobs


def elements(job: str) -> list[str]:
    """The elements of an array that one line stands for: 12_[2-4,7%2] is 12_2, 12_3, 12_4 and 12_7."""
    array, bracket, rest = job.partition("_[")
    if not bracket:
        return [job]
    found = []
    for part in rest.rstrip("]").partition("%")[0].split(","):
        first, _, last = part.partition("-")
        last, _, step = last.partition(":")
        if not first.isdigit():  # an answer that was cut short: "..."
            continue
        found += [f"{array}_{number}" for number in range(int(first), int(last or first) + 1, int(step or 1))]
    return found


def parse_config(text: str) -> dict[str, str]:
    """What `scontrol show config` answers: MaxArraySize, PreemptMode, SLURM_VERSION and the others."""
    found = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in found}


def parse_job(text: str) -> dict[str, str]:
    """What `scontrol --oneliner show job ID` answers of one job: JobState, Reason, Restarts and the others.

    So it answers of a node or a partition, too; without --oneliner, on several lines. Of a name that comes twice the
    first counts: what follows JobState may quote a command line.
    """
    parts = re.split(r"(?:^|\s+)([A-Z][\w/:]*)=", text.strip())
    return dict(zip(parts[-2::-2], parts[:1:-2], strict=True))


def parse_submitted(text: str) -> str:
    """The id of the job or array that `sbatch --parsable` has submitted: of "12;cluster", 12."""
    return text.strip().splitlines()[-1].partition(";")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnJob:
    """The job that this process is part of."""

    id: str
    raw_id: int
    restarts: int  # a later start has more: with the id, what fences off an earlier one that still lives


def own_job(environ: Mapping[str, str]) -> OwnJob | None:
    """The job that an environment tells of; None outside of jobs."""
    raw, array = environ.get("SLURM_JOB_ID"), environ.get("SLURM_ARRAY_JOB_ID")
    if raw is None:
        return None
    job = f"{array}_{environ['SLURM_ARRAY_TASK_ID']}" if array else raw
    return OwnJob(id=job, raw_id=int(raw), restarts=int(environ.get("SLURM_RESTART_COUNT", 0)))


def seconds(text: str) -> int | None:
    """Of a duration as SLURM writes it, DAYS-HH:MM:SS, HH:MM:SS or MM:SS; None where it is no limit."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if match is None:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def gpus(text: str) -> int:
    """The GPUs in sinfo's "gpu:a100:8(S:0-1),..." or in sacct's "...,gres/gpu=8,gres/gpu:a100=8", the total."""
    total = re.search(r"gres/gpu=(\d+)", text)
    if total:
        return int(total.group(1))
    typed = re.findall(r"gres/gpu:[^=,]+=(\d+)", text) or re.findall(r"(?:^|,)gpu:(?:[^:,(]+:)?(\d+)", text)
    return sum(map(int, typed))


def rows(text: str, names: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Lines of fields between bars, by the fields' names; the last field may hold bars."""
    for line in text.splitlines():
        if line.strip():
            yield dict(zip(names, line.split("|", len(names) - 1), strict=True))


def value(text: str) -> str | None:
    """None where SLURM's word means nothing."""
    return None if text in _NOTHING else text
