"""SLURM's answers, as captured from several releases (slurm_outputs/README.md), and small ones by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.launching import slurm
from harness.launching.slurm import AccountedJob, Phase, QueuedJob

RELEASES = sorted(path for path in (Path(__file__).parent / "slurm_outputs").iterdir() if path.name[0].isdigit())
release = pytest.mark.parametrize("folder", RELEASES, ids=lambda folder: folder.name)


def read(folder: Path, name: str) -> str:
    return (folder / f"{name}.txt").read_text(encoding="utf-8")


def test_several_releases_were_captured() -> None:
    assert [folder.name.split(".")[0] for folder in RELEASES] == ["22", "24", "26"]


@release
def test_the_queue(folder: Path) -> None:
    jobs = slurm.parse_queue(read(folder, "squeue"))
    named = {job.name.partition("-long")[0]: job for job in jobs if job.name != "a|b=c"}
    reasons = {name: job.reason for name, job in named.items() if job.state == "PENDING"}
    assert reasons["dependent"] == "Dependency"
    never = {name for name, reason in reasons.items() if slurm.waits_for_ever(str(reason))}
    assert never == {"held", "qos", "partition", "hopeless"}
    assert named["requeued"].name == "requeued" + "-long" * 20
    assert {name for name, job in named.items() if job.restarts} == {"requeued", "preempted", "node"}
    assert named["preemptor"].nodes == "n3"
    assert 100 <= named["preemptor"].seconds <= 170
    assert not {"failed", "memory", "cancelled"} & named.keys()


@release
def test_the_elements_of_an_array_in_the_queue(folder: Path) -> None:
    jobs = [job for job in slurm.parse_queue(read(folder, "squeue")) if job.name == "a|b=c"]
    (array,) = {job.id.split("_")[0] for job in jobs}
    assert {job.id for job in jobs} <= {f"{array}_{index}" for index in range(8)}
    assert [job.state for job in jobs].count("RUNNING") == 2
    assert all(job.reason == "JobArrayTaskLimit" for job in jobs if job.state == "PENDING")
    assert len({job.raw_id for job in jobs if job.state == "RUNNING"}) == 2


@release
def test_the_accounting(folder: Path) -> None:
    jobs = slurm.parse_accounting(read(folder, "sacct"))
    states: dict[str, list[str]] = {}
    for job in jobs:
        states.setdefault(job.name.partition("-long")[0], []).append(job.state)
    assert states["failed"] == ["FAILED"]
    assert states["memory"] == ["OUT_OF_MEMORY"]
    assert states["time"] == ["TIMEOUT"]
    assert states["cancelled"] == ["CANCELLED"]
    assert (states["requeued"][0], states["preempted"][0], states["node"][0]) == ("REQUEUED", "PREEMPTED", "NODE_FAIL")
    assert all(len(states[name]) == 2 for name in ("requeued", "preempted", "node"))
    failed = next(job for job in jobs if job.name == "failed")
    assert (failed.exit_code, failed.signal, failed.gpus) == (3, 0, 0)
    preempted = next(job for job in jobs if job.name == "preempted")
    assert (preempted.gpus, preempted.nodes) == (8, "n3")
    assert preempted.end is not None


@release
def test_the_elements_of_an_array_in_the_accounting(folder: Path) -> None:
    """Those that wait too, which sacct puts in one line; each with its two GPUs once it has started."""
    jobs = [job for job in slurm.parse_accounting(read(folder, "sacct")) if job.name == "a|b=c"]
    (array,) = {job.id.split("_")[0] for job in jobs}
    assert sorted(job.id for job in jobs) == [f"{array}_{index}" for index in range(8)]
    assert {job.gpus for job in jobs if slurm.phase(job.state) != Phase.WAITING} == {2}
    assert all(50 <= job.seconds <= 60 for job in jobs if job.state == "COMPLETED")


@release
def test_the_configuration_and_a_job(folder: Path) -> None:
    found = slurm.parse_config(read(folder, "config"))
    assert (found["MaxArraySize"], found["PreemptMode"], found["KillWait"]) == ("1001", "REQUEUE", "5 sec")
    assert found["SLURM_VERSION"] == folder.name
    job = slurm.parse_job(read(folder, "job"))
    (queued,) = [one for one in slurm.parse_queue(read(folder, "squeue")) if str(one.raw_id) == job["JobId"]]
    assert (job["JobState"], job["Restarts"], job["NodeList"]) == (queued.state, str(queued.restarts), queued.nodes)
    assert (job["JobName"], job["Requeue"], job["UserId"]) == (queued.name, "1", "root(0)")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", ["12"]),
        ("12_3", ["12_3"]),
        ("12_[2-4,7%2]", ["12_2", "12_3", "12_4", "12_7"]),
        ("12_[0-6:3]", ["12_0", "12_3", "12_6"]),
        ("12_[5]", ["12_5"]),
        ("12_[2,4-5,...", ["12_2", "12_4", "12_5"]),
    ],
)
def test_elements(text: str, expected: list[str]) -> None:
    assert slurm.elements(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0:38", 38), ("30:00", 1800), ("1:40:00", 6000), ("2-00:00:01", 172801), ("infinite", None), ("N/A", None)],
)
def test_seconds(text: str, expected: int | None) -> None:
    assert slurm.seconds(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu:8", 8),
        ("gpu:a100:8(S:0-1)", 8),
        ("gpu:a100:4,gpu:v100:2,tmp:800G", 6),
        ("(null)", 0),
        ("billing=9,cpu=9,gres/gpu:a100=8,gres/gpu=8,mem=60G,node=1", 8),
        ("billing=9,cpu=9,gres/gpu:a100=8,mem=60G", 8),
        ("billing=1,cpu=1,mem=4000M,node=1", 0),
    ],
)
def test_gpus(text: str, expected: int) -> None:
    assert slurm.gpus(text) == expected


def test_phases() -> None:
    assert slurm.phase("PENDING") == slurm.phase("REQUEUE_HOLD") == Phase.WAITING
    assert slurm.phase("RUNNING") == slurm.phase("COMPLETING") == Phase.WORKING
    ended = ("COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "CANCELLED", "BOOT_FAIL")
    assert {slurm.phase(state) for state in ended} == {Phase.ENDED}


@pytest.mark.parametrize("reason", ["Resources", "Priority", "BeginTime", "QOSMaxCpuPerUserLimit", "ReqNodeNotAvail"])
def test_reasons_that_pass(reason: str) -> None:
    assert not slurm.waits_for_ever(reason)


@pytest.mark.parametrize(
    "reason",
    [
        *("PartitionConfig", "BadConstraints", "InvalidQOS", "AssocMaxGRESPerJob", "QOSMinGRES", "JobHeldAdmin"),
        *("launch failed requeued held", "QOSMaxWallDurationPerJobLimit", "AssocMaxCpuPerJobLimit"),
    ],
)
def test_reasons_that_do_not(reason: str) -> None:
    assert slurm.waits_for_ever(reason)


@pytest.mark.parametrize("parse", [slurm.parse_queue, slurm.parse_accounting])
def test_nothing_is_an_empty_list(parse: Callable[[str], list[QueuedJob] | list[AccountedJob]]) -> None:
    assert parse("\n") == []


def test_what_sbatch_says() -> None:
    assert slurm.parse_submitted("12\n") == "12"
    assert slurm.parse_submitted("12;testbed\n") == "12"
    assert slurm.parse_submitted("sbatch: a notice of the site\n12\n") == "12"


def test_the_job_we_are_in() -> None:
    assert slurm.own_job({}) is None
    alone = slurm.own_job({"SLURM_JOB_ID": "12"})
    assert alone is not None and (alone.id, alone.raw_id, alone.restarts) == ("12", 12, 0)
    array = {"SLURM_JOB_ID": "14", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3", "SLURM_RESTART_COUNT": "2"}
    element = slurm.own_job(array)
    assert element is not None and (element.id, element.raw_id, element.restarts) == ("12_3", 14, 2)


def test_a_job_of_25_as_quoted() -> None:
    """On several lines, with fields that came since 22.05."""
    job = slurm.parse_job(read(Path(__file__).parent / "slurm_outputs" / "found", "job-slurm-bridge"))
    assert (job["JobState"], job["Partition"], job["ExcNodeList"]) == ("CANCELLED", "slurm-bridge", "(null)")


def test_a_command_line_that_a_job_quotes_says_nothing_of_its_state() -> None:
    job = slurm.parse_job("JobId=1 JobName=x JobState=RUNNING SubmitLine=sbatch x JobState=FAILED JobName=y WorkDir=/u")
    assert (job["JobState"], job["JobName"], job["WorkDir"]) == ("RUNNING", "x", "/u")
