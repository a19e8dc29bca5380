"""The SLURM testbed, up for the whole session."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from slurm.place import Place
from slurm.waiting import eventually

TESTBED = ROOT / "slurm" / "testbed"
STATE = ROOT / ".slurm-testbed"
sys.path.insert(0, str(TESTBED))


def call(command: str, *, check: bool = True, **keywords: object) -> "subprocess.CompletedProcess[str]":
    """Run a command, its words split at spaces."""
    return subprocess.run(command.split(), check=check, capture_output=True, text=True, timeout=300, **keywords)


def output(command: str) -> str:
    """What a command says."""
    return call(command).stdout.strip()


def run_testbed(command: str, *, state: Path = STATE, check: bool = True) -> "subprocess.CompletedProcess[str]":
    """up or down."""
    return call(f"{sys.executable} {TESTBED}/testbed.py {command} --state {state}", check=check)


def start_now(job: str) -> None:
    """Spare a job that is being requeued its two minutes, but for two seconds.

    SLURM sets the two minutes when the job's old processes have ended, which may be after it calls the job PENDING: so
    ask until it has started. A job that starts in the second of its requeue fails (job credential revoked).
    """

    def line(pattern: str) -> bool:
        queue = output("squeue --me --array --noheader --Format JobArrayID:|,State:|,RestartCnt:")
        return re.search(rf"^{job}\|{pattern}", queue, re.MULTILINE) is not None

    def started() -> bool:
        call(f"scontrol update JobId={job} StartTime=now", check=False)
        return not line("(PENDING|COMPLETING)")

    eventually(lambda: line(r"PENDING\|[1-9]"))
    time.sleep(2)
    eventually(started)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    """The testbed's state folder; SLURM_CONF is set. It is ended with the session, unless it was up before."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        message = "needs root on Debian, for a real SLURM"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    from daemons import working

    found = bool(working(STATE))
    run_testbed("up")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", f"{STATE}/etc/slurm.conf")
        yield STATE
    if not found:
        run_testbed("down")


@pytest.fixture
def place(cluster: Path, tmp_path: Path) -> Iterator[Place]:
    """A working folder whose jobs are cancelled in the end."""
    made = Place(tmp_path)
    yield made
    for name in (tmp_path / "runs" / ".slurm").glob("*"):
        call(f"scancel --name={name.name}")
