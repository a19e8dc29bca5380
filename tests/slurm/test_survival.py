"""What happens to a run on a cluster, and what comes of it: every step and every point once, the same weights."""

import os
import re
import shutil
import signal
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest

from harness.run_paths import RunPaths
from harness.run_state import State, read_state
from slurm.conftest import call, eventually, run_testbed, start_now
from slurm.faults import dead_node, hurrying, node_of, partition, preempt, processes, without_daemon
from slurm.outcome import assert_whole
from slurm.place import Place, begun, finished, first_steps, run, steps, text

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


def test_a_time_limit_and_beside_it_a_preemption_without_a_warning(cluster: Path, place: Place) -> None:
    """Two runs at a time, on a node each. No grace, so no user signal at a preemption: TERM, and SLURM requeues.

    SLURM looks every half minute at what is soon over: the training stands still until it is warned.
    """
    with partition("abrupt", "Nodes=n3,n4 PriorityTier=1 PreemptMode=REQUEUE GraceTime=0"):
        place.write("partition: abrupt\nmemory_gb: 40\nsignal_delay_s: 300", epochs=4, seeds="[0, 1]")
        rows = place.submit()
        (job, other), (paths, preempted) = [row["job"] for row in rows], [run(row) for row in rows]
        eventually(lambda: steps(paths, "train"), 240)
        (training := processes(job)[0]).suspend()
        call(f"scontrol update JobId={job} EndTime={datetime.now() + timedelta(seconds=200):%FT%T}")
        eventually(lambda: steps(preempted, "train"), 240)
        preempt(other)
        eventually(lambda: was_warned(training), 120)
        with suppress(psutil.NoSuchProcess):
            training.resume()
        eventually(lambda: read_state(paths).state == State.QUEUED, 120)
        call(f"scontrol update JobId={job} TimeLimit=60")
        hurry = hurrying([job, other])
        eventually(lambda: hurry() and all(read_state(one).state == State.FINISHED for one in (paths, preempted)), 300)
    for one in (paths, preempted):
        assert read_state(one).attempt == 2
        assert_whole(place, one)


def was_warned(process: psutil.Process) -> bool:
    """Whether SIGUSR2 waits for a process that stands still, or has woken it already."""
    try:
        pending = re.search(r"ShdPnd:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())
        woken = process.status() != psutil.STATUS_STOPPED
    except (OSError, psutil.NoSuchProcess):
        return True
    return woken or bool(pending and int(pending[1], 16) >> signal.SIGUSR2 - 1 & 1)


@pytest.mark.slow
def test_a_time_limit_of_which_no_signal_warns(place: Place) -> None:
    """A site whose sbatch takes --signal away: TERM comes alone, and finds the training standing still."""
    place.write(epochs=4)
    (row,) = place.submit(PATH=f"{without_signals(place.folder)}:{os.environ['PATH']}")
    job, paths = row["job"], run(row)
    eventually(lambda: steps(paths, "train"), 240)
    processes(job)[0].suspend()
    call(f"scontrol update JobId={job} EndTime={datetime.now():%FT%T}")
    eventually(lambda: read_state(paths).state == State.QUEUED, 120)
    assert read_state(paths).reason.endswith("stopped at the time limit of its job, of which no signal had warned")
    start_now(job)
    finished(paths, 2)
    assert_whole(place, paths)


def without_signals(folder: Path) -> Path:
    """A folder with an sbatch that drops --signal from scripts."""
    sbatch = folder / "bin" / "sbatch"
    sbatch.parent.mkdir()
    drop = 'for script; do :; done; sed -i /--signal=/d "$script"'
    sbatch.write_text(f'#!/bin/sh\n{drop}\nexec {shutil.which("sbatch")} "$@"\n')
    sbatch.chmod(0o755)
    return sbatch.parent


@pytest.mark.slow
def test_a_time_limit_again_and_again_until_the_schedule_is_done(place: Place) -> None:
    job, paths = begun(place, "minutes: 1\nsignal_delay_s: 25", epochs=40)
    hurry = hurrying([job])
    eventually(lambda: hurry() and read_state(paths).state == State.FINISHED, 900)
    assert read_state(paths).attempt >= 3
    assert_whole(place, paths)
