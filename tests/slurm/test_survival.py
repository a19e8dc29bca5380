"""What happens to a run on a cluster, and what comes of it: every step and every point once, the same weights."""

import re
import signal
import time
from pathlib import Path

import pytest

from harness.runs import RunPaths, State, read_state
from slurm.conftest import call, eventually, run_testbed, start_now
from slurm.faults import dead_node, hurrying, node_of, partition, preempt, processes, without_daemon
from slurm.outcome import assert_whole
from slurm.place import Place, begun, finished, first_steps, steps, text

pytestmark = pytest.mark.slurm


def test_preempted_with_the_user_signal_and_then_requeued_by_an_operator(place: Place) -> None:
    """The first tells the job before, by USR2; the second by TERM alone, and SLURM requeues it by itself."""
    job, paths = begun(place)
    preempt(job)
    eventually(lambda: place.states() == ["QUEUED"], 120)
    assert read_state(paths).reason.startswith("requeued after attempt 1 was stopped by SIGUSR2")
    start_now(job)
    eventually(lambda: read_state(paths).attempt == 2 and len(steps(paths, "train")) > len(first_steps(paths)), 240)
    call(f"scontrol requeue {job}")
    eventually(lambda: f"job {job} waits: BeginTime" in text(place), 120)
    assert place.states() == ["QUEUED"]
    assert [again["action"] for again in place.submit()] == ["leave alone"]
    start_now(job)
    finished(paths, 3)
    assert_whole(place, paths)


@pytest.mark.slow
def test_preempted_without_a_warning(cluster: Path, place: Place) -> None:
    """No grace, so no user signal: TERM, and SLURM requeues."""
    with partition("abrupt", "Nodes=n3,n4 PriorityTier=1 PreemptMode=REQUEUE GraceTime=0"):
        job, paths = begun(place, "partition: abrupt")
        preempt(job)
        eventually(lambda: f"job {job} waits" in text(place), 120)
        start_now(job)
        finished(paths, 2)
    assert_whole(place, paths)


def test_a_node_that_dies_with_all_that_works_there(cluster: Path, place: Place) -> None:
    with partition("mortal", "Nodes=n3,n4"):
        job, paths = begun(place, "partition: mortal")
        node = node_of(job)
        with dead_node(node, job):
            assert not processes(job)
            eventually(lambda: f"job {job} waits" in text(place), 120)
            start_now(job)
            finished(paths, 2)
    assert_whole(place, paths)
    assert f'"node": "{node}"' not in (paths.attempt(2) / "job.json").read_text()


def test_a_superseded_attempt_writes_nothing(cluster: Path, place: Place) -> None:
    """Its slurmd died and its machine stood still: when it wakes up, the run is another job's, and finished."""
    with partition("mortal", "Nodes=n3,n4"):
        job, paths = begun(place, "partition: mortal")
        (old,) = processes(job)
        old.suspend()
        with without_daemon(node_of(job)):
            eventually(lambda: f"job {job} waits" in text(place), 120)
            start_now(job)
            finished(paths, 2)
            eventually(lambda: not (paths.folder / ".cursor").exists())
            assert_whole(place, paths)
            before = files(paths)
            assert old.is_running()
            old.resume()
            old.wait(60)
        after = files(paths)
    own = str(paths.attempt(1).relative_to(paths.folder))
    assert {name for name in after if after[name] != before.get(name) and not name.startswith(own)} == set()
    assert_whole(place, paths)


def files(paths: RunPaths) -> dict[str, tuple[int, int]]:
    """Size and time of everything in the run folder."""
    found = [(file, file.stat()) for file in paths.folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(paths.folder)): (status.st_size, status.st_mtime_ns) for file, status in found}


@pytest.mark.slow
def test_a_controller_that_is_away_when_the_job_wants_to_be_requeued(cluster: Path, place: Place) -> None:
    from daemons import end, working

    job, paths = begun(place)
    (training,) = processes(job)
    training.suspend()
    try:
        end(working(cluster, "slurmctld"), signal.SIGTERM)
        training.send_signal(signal.SIGUSR2)
        training.resume()
        eventually(lambda: read_state(paths).state == State.QUEUED)
        assert f"job {job}: squeue failed" in text(place)
        time.sleep(15)
    finally:
        run_testbed("up")
    eventually(lambda: f"job {job} waits" in text(place), 120)
    start_now(job)
    finished(paths, 2)
    assert_whole(place, paths)


@pytest.mark.slow
def test_one_process_of_two_nodes_is_killed(place: Place) -> None:
    shape = {"batch": 8, "epochs": 4, "shorten": ", iterations_per_epoch: 4"}
    job, paths = begun(place, "nodes: 2\ngpus_per_node: 2", **shape)
    processes(job)[3].kill()
    eventually(lambda: place.states() == ["FAILED"], 120)
    assert re.match(r"rank 3 on \w+ \(process \d+\) died without a word", text(place)), text(place)
    assert [row["action"] for row in place.submit()] == ["resume"]
    finished(paths, 2)
    assert_whole(place, paths, iterations=4, weights=False)


@pytest.mark.slow
def test_a_time_limit_again_and_again_until_the_schedule_is_done(place: Place) -> None:
    job, paths = begun(place, "minutes: 1\nsignal_delay_s: 25", epochs=40)
    hurry = hurrying([job])
    eventually(lambda: hurry() and read_state(paths).state == State.FINISHED, 900)
    assert read_state(paths).attempt >= 3
    assert_whole(place, paths)
