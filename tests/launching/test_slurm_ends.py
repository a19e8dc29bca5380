"""How jobs ended, from what SLURM 22.05.8 said of provoked ends on the testbed (slurm/testbed), word for word."""

import pytest

from harness.failures import Failure
from harness.launching.slurm_ends import JobEnd, parse_ends, parse_shown

SHOWN = (
    "JobId=139 ArrayJobId=138 ArrayTaskId=0 JobName=H2-oom UserId=root(0) GroupId=root(0) MCS_label=N/A "
    "Priority=4294901634 Nice=0 Account=root QOS=normal JobState=FAILED Reason=NonZeroExitCode Dependency=(null) "
    "Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=1:0 DerivedExitCode=0:125 RunTime=00:00:01 "
    "TimeLimit=00:05:00 StartTime=2026-11-22T13:59:03 EndTime=2026-11-22T13:59:04 Partition=gpu "
    "NodeList=n1 BatchHost=n1 NumNodes=1 MinMemoryNode=200M Command=/x/oom.sh WorkDir=/x StdOut=/x/138_0.out Power= "
)
"""A step that the kernel killed for want of memory; SLURM calls the job FAILED, with srun's exit code."""

ACCOUNTED = """\
138_0|FAILED|1:0|0:125|n1|H2-oom
138_1|FAILED|9:0|0:9|n1|H2-oom
138_2|FAILED|2:0|2:0|n1|H2-oom
"""


def test_a_job_that_the_controller_still_knows() -> None:
    found = parse_shown(SHOWN, "H2-oom")
    assert found == JobEnd(state="FAILED", exit_code=0, signal=125, nodes="n1")
    assert (found.kind, str(found)) == (Failure.MEMORY, "FAILED (out of memory)")
    assert parse_shown(SHOWN, "tiny-1a") is None  # the id has come again
    assert parse_shown(SHOWN.replace("JobState=FAILED", "JobState=COMPLETING"), "H2-oom") == "COMPLETING"
    assert parse_shown("", "H2-oom") is None


@pytest.mark.parametrize(
    ("job", "kind", "said"),
    [
        ("138_0", Failure.MEMORY, "FAILED (out of memory)"),
        ("138_1", Failure.UNKNOWN, "FAILED (signal 9)"),
        ("138_2", Failure.MISTAKE, "FAILED (exit code 2)"),
    ],
)
def test_a_job_that_the_accounting_knows(job: str, kind: Failure, said: str) -> None:
    (end,) = parse_ends(ACCOUNTED, job, "H2-oom")
    assert end is not None
    assert (end.kind, str(end), end.nodes) == (kind, said, "n1")


def test_the_starts_of_a_job_in_order() -> None:
    """The accounting's rows of a job that lost its node, was taken back by an operator, and works; and of another."""
    text = (
        "12_3|NODE_FAIL|0:0|0:0|n2|tiny-1a\n12_3|REQUEUED|0:0|0:15|n1|tiny-1a\n"
        "12_3|CANCELLED by 0|0:0|0:0|n1|tiny-0z\n12_3|RUNNING|0:0|0:0|n3|tiny-1a\n"
    )
    first, second, third = parse_ends(text, "12_3", "tiny-1a")
    assert first is not None and second is not None and third is None
    assert (first.kind, first.nodes, str(first)) == (Failure.NODE, "n2", "NODE_FAIL")
    assert (second.kind, str(second)) == (Failure.CANCELLED, "REQUEUED")


@pytest.mark.parametrize(
    ("state", "code", "signal", "kind"),
    [
        ("OUT_OF_MEMORY", 0, 125, Failure.MEMORY),
        ("TIMEOUT", 0, 0, Failure.TIME),
        ("BOOT_FAIL", 0, 0, Failure.NODE),
        ("PREEMPTED", 0, 15, Failure.CANCELLED),
        ("FAILED", 1, 0, Failure.BUG),
        ("FAILED", 0, 11, Failure.BUG),  # a crash
        ("FAILED", 0, 7, Failure.NODE),  # a bus error
        ("FAILED", 127, 0, Failure.MISTAKE),  # no such command
        ("FAILED", 70, 0, Failure.HANG),
        ("COMPLETED", 0, 0, Failure.UNKNOWN),
    ],
)
def test_kinds(state: str, code: int, signal: int, kind: Failure) -> None:
    assert JobEnd(state=state, exit_code=code, signal=signal, nodes="").kind == kind


def test_a_requeued_start_does_not_colour_the_end_of_the_next() -> None:
    """As the testbed said it of a job that was told to stop (75), requeued, and then lost a process to kill -9."""
    (_, end) = parse_ends("18_0|REQUEUED|0:0|0:0|n1|a\n18_0|FAILED|9:0|75:0|n[1-2]|a\n", "18_0", "a")
    assert end is not None
    assert (end.kind, str(end)) == (Failure.UNKNOWN, "FAILED (exit code 9)")


def test_a_signal_as_a_shell_tells_it() -> None:
    (end,) = parse_ends("5_0|FAILED|137:0|137:0|n1|a\n", "5_0", "a")
    assert end is not None
    assert (end.exit_code, end.signal) == (0, 9)
