import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import processes
from harness.leases import acquire
from harness.processes import has_died, is_here, is_working, signature, start_time, whereabouts
from harness.run_paths import RunPaths
from harness.run_state import RunState, State, read_state, write_state


def test_a_process_works_until_it_ends_reaped_or_not():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = start_time(child.pid)
    assert is_working(child.pid, started)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    assert not is_working(child.pid, started)
    child.wait()
    assert not is_working(child.pid, started)


def test_an_id_that_was_given_again_is_another_process():
    assert abs(start_time() - time.time()) < 24 * 3600
    assert is_working(os.getpid(), start_time())
    assert not is_working(os.getpid(), start_time() - 1000)


def test_a_record_is_judged_only_where_its_process_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = RunState(state=State.RUNNING, **signature())
    gone = RunState(state=State.RUNNING, **signature() | {"pid": 2**22 - 1})
    assert is_here(mine) and not has_died(mine) and has_died(gone)
    older = RunState(state=State.RUNNING, **signature() | {"space": "", "pid": 2**22 - 1})
    assert has_died(older)
    monkeypatch.setattr(processes, "space", lambda: f"{gone.space.partition(' ')[0]} pid:[1]")
    assert not is_here(gone) and not has_died(gone)
    assert whereabouts(gone) == f"{gone.host} (another container there)"
    monkeypatch.setattr(processes, "space", lambda: "another-boot pid:[1]")
    assert not is_here(gone) and not has_died(gone)
    assert whereabouts(gone) == f"{gone.host} (another machine of that name)"  # it began after this one's start
    monkeypatch.setattr(processes.psutil, "boot_time", lambda: gone.started + 60)
    assert whereabouts(gone) == f"{gone.host} (before it was started anew)"
    assert has_died(older)  # it says no more than its host
    monkeypatch.setattr(processes.socket, "gethostname", lambda: "another")
    assert not has_died(older) and whereabouts(older) == older.host


LOOK = """
import sys
from pathlib import Path
from harness.leases import acquire
from harness.processes import is_working
from harness.run_paths import RunPaths
from harness.run_state import read_state
folder, pid = Path(sys.argv[1]), int(sys.argv[2])
print(read_state(RunPaths(folder)).state, acquire(folder / "lease"), is_working(pid, float(sys.argv[3])))
"""


def test_containers_of_one_host_name_leave_each_others_processes_alone(tmp_path: Path) -> None:
    """A process of another PID namespace, with the same host name: this one's id is nobody's there."""
    alone = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system gives no namespace of process ids")
    write_state(RunPaths(tmp_path), State.RUNNING, attempt=1)
    assert acquire(tmp_path / "lease") is not None
    words = [sys.executable, "-c", LOOK, str(tmp_path), str(os.getpid()), str(start_time())]
    seen = subprocess.run([*alone, *words], check=True, capture_output=True, text=True).stdout
    assert seen == "RUNNING None False\n"
    assert read_state(RunPaths(tmp_path)).state == State.RUNNING
