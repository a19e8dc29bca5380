"""The testbed itself: up, down, and up again from whatever was left."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from slurm.conftest import STATE, call, eventually, output, run_testbed

pytestmark = pytest.mark.slurm

DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "n1", "n2", "n3", "n4")
NODES_OF_A_STEP = "srun --nodes=2 --nodelist=n1,n2 --time=5 printenv SLURMD_NODENAME"


def pids() -> dict[str, list[int]]:
    from daemons import working

    return {name: working(STATE, name) for name in DAEMONS}


@pytest.fixture
def job(cluster: Path, tmp_path: Path) -> Iterator[str]:
    """The id of a job that runs on n1 until it is cancelled."""
    command = f"sbatch --parsable --nodelist=n1 --time=60 --output={tmp_path}/out --wrap"
    number = subprocess.run([*command.split(), "exec sleep 3000"], capture_output=True, text=True, check=True).stdout
    eventually(lambda: output(f"squeue --noheader --jobs={number.strip()} --format=%T") == "RUNNING")
    now, saved = time.time(), cluster / "ctld" / "job_state"
    call(f"scontrol update JobId={number.strip()} Comment=changed")
    eventually(lambda: saved.exists() and saved.stat().st_mtime > now)  # killed before, slurmctld forgets the job
    yield number.strip()
    call(f"scancel {number.strip()}")


def test_up_again_leaves_what_works_alone_and_is_quick(cluster: Path) -> None:
    before, started = pids(), time.monotonic()
    assert f"export SLURM_CONF={cluster}/etc/slurm.conf" in run_testbed("up").stdout
    assert time.monotonic() - started < 30
    assert pids() == before
    assert all(len(found) == 1 for found in before.values())


def test_it_listens_on_the_loopback_alone(cluster: Path) -> None:
    ours = {pid for found in pids().values() for pid in found}
    listening = [entry for entry in psutil.net_connections("inet") if entry.status == "LISTEN" and entry.pid in ours]
    assert {entry.laddr.port for entry in listening} == {16817, 16819, 17001, 17002, 17003, 17004}
    assert {entry.laddr.ip for entry in listening} == {"127.0.0.1"}


def test_two_nodes_with_gpus_of_their_own(cluster: Path) -> None:
    command = ["srun", "--nodes=2", "--nodelist=n1,n2", "--ntasks-per-node=2", "--gpus-per-node=3", "--time=5"]
    command += ["--label", "sh", "-c", "echo $SLURMD_NODENAME $SLURM_LOCALID $CUDA_VISIBLE_DEVICES"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert sorted(said.splitlines()) == ["0: n1 0 0,1,2", "1: n1 1 0,1,2", "2: n2 0 0,1,2", "3: n2 1 0,1,2"]


def test_jobs_that_share_a_node_share_no_gpu(cluster: Path, tmp_path: Path) -> None:
    command = f"sbatch --parsable --nodelist=n4 --gpus=4 --time=5 --output={tmp_path}/%j --wrap"
    for _ in range(2):
        subprocess.run([*command.split(), "echo $CUDA_VISIBLE_DEVICES; sleep 2"], check=True, capture_output=True)
    eventually(lambda: sorted(file.read_text() for file in tmp_path.iterdir()) == ["0,1,2,3\n", "4,5,6,7\n"])


def test_accounting_knows_gpus_account_and_an_end_by_memory(cluster: Path, tmp_path: Path) -> None:
    command = f"sbatch --parsable --account=lab --qos=short --gpus=2 --mem=50M --output={tmp_path}/out --wrap"
    hungry = [*command.split(), "python3 -c 'bytearray(300 << 20)'"]
    number = subprocess.run(hungry, check=True, capture_output=True, text=True).stdout.strip()
    query = f"sacct -X --noheader --parsable2 --jobs={number} --format=State,Account,QOS,AllocTRES"
    end = "OUT_OF_MEMORY" if "proctrack/cgroup" in output("scontrol show config") else "COMPLETED"
    eventually(lambda: output(query).startswith(f"{end}|lab|short|"))  # sacct trails, in parts
    assert "gres/gpu=2" in output(query)


@pytest.mark.parametrize("victims", [DAEMONS[:3], ("slurmctld",), ("n1",), DAEMONS], ids="+".join)
def test_up_mends_what_was_killed_and_running_jobs_go_on(job: str, victims: tuple[str, ...]) -> None:
    before = pids()
    for name in victims:
        os.kill(before[name][0], signal.SIGKILL)
    started = time.monotonic()
    run_testbed("up")
    assert time.monotonic() - started < 60  # measured below 5 s; the bound is for a busy machine
    after = pids()
    assert {name for name in DAEMONS if after[name] != before[name]} == set(victims)
    assert sorted(output(NODES_OF_A_STEP).split()) == ["n1", "n2"]
    assert output(f"squeue --noheader --jobs={job} --format=%T|%N") == "RUNNING|n1"


def test_up_ends_a_daemon_that_hangs(cluster: Path) -> None:
    (hung,) = pids()["slurmctld"]
    os.kill(hung, signal.SIGSTOP)
    run_testbed("up")
    assert pids()["slurmctld"] != [hung]
    assert sorted(output(NODES_OF_A_STEP).split()) == ["n1", "n2"]


def test_up_resumes_a_drained_node(cluster: Path) -> None:
    call("scontrol update NodeName=n3 State=DRAIN Reason=test")
    run_testbed("up")
    assert output("sinfo --noheader --nodes=n3 --Node --partition=gpu --format=%T") == "idle"


def test_a_second_testbed_is_refused(cluster: Path, tmp_path: Path) -> None:
    refused = run_testbed("up", state=tmp_path, check=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: the testbed in {cluster} is up;")
    assert refused.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_down_ends_jobs_and_daemons_but_no_stranger(job: str, cluster: Path) -> None:
    from daemons import helpers, tasks

    theirs = [psutil.Process(pid) for pid in tasks(STATE) + helpers(STATE)]
    assert {process.name() for process in theirs} == {"slurmscriptd", "slurmstepd", "sleep"}
    stranger = subprocess.Popen(["sleep", "300"])  # with SLURM_CONF of the testbed, as any shell that uses it
    try:
        run_testbed("down")
        assert stranger.poll() is None
        assert not any(pids().values())
        assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in theirs)
        run_testbed("down")  # what is down is left alone
    finally:
        stranger.kill()
        stranger.wait()
        run_testbed("up")
    assert output("squeue --noheader --all") == ""
    eventually(lambda: output(f"sacct -X --noheader --jobs={job} --format=State%30").startswith("CANCELLED"))


def test_down_ends_jobs_though_the_controller_is_dead(job: str) -> None:
    from daemons import helpers, tasks

    for name in ("slurmctld", "n1"):
        os.kill(pids()[name][0], signal.SIGKILL)
    run_testbed("down")
    assert tasks(STATE) + helpers(STATE) == []
    run_testbed("up")
