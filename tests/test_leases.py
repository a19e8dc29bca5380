import errno
import json
import os
import socket
import subprocess
import sys
import time

import psutil
import pytest
from renewals import wait_for_renewals

from harness import leases
from harness.leases import LeaseLost, acquire, holding, is_held, is_held_elsewhere, is_idle, renewing


def holder(folder, number, **changes):
    """A lease file of this living process, for an hour."""
    values = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "expires": time.time() + 3600,
    }
    folder.mkdir(exist_ok=True)
    (folder / f"{number:08d}").write_text(json.dumps(values | changes))


def test_one_holder_until_it_is_released(tmp_path):
    lease = acquire(tmp_path / "lease")
    assert acquire(tmp_path / "lease") is None
    assert not is_idle(tmp_path / "lease") and is_held(tmp_path / "lease")
    lease.release()
    assert is_idle(tmp_path / "lease") and not is_held(tmp_path / "lease")
    assert acquire(tmp_path / "lease").number == lease.number + 1


def test_an_expired_lease_is_taken_over_and_its_holder_fenced_off(tmp_path):
    slept = acquire(tmp_path)
    holder(tmp_path, slept.number, expires=time.time() - 1)
    taken = acquire(tmp_path)
    with pytest.raises(LeaseLost):
        slept.renew()
    slept.release()  # must not free what is another's now
    assert acquire(tmp_path) is None
    taken.renew()


@pytest.mark.slow
def test_a_lease_is_renewed_beside_a_block_and_no_longer(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "SECONDS", 0.4)
    lease = acquire(tmp_path)
    with renewing(lease):
        wait_for_renewals(tmp_path)
    time.sleep(0.5)
    taken = acquire(tmp_path)
    assert taken.number == lease.number + 1
    with renewing(lease), pytest.raises(LeaseLost):  # it is not taken back
        lease.renew()


def test_a_dead_holder_of_this_host_is_noticed_at_once(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    holder(tmp_path, 3, pid=gone.pid)
    assert acquire(tmp_path).number == 4


def test_a_reused_pid_is_not_the_holder(tmp_path):
    holder(tmp_path, 3, started=psutil.Process().create_time() - 1000)
    assert acquire(tmp_path).number == 4


def test_a_holder_of_another_host_keeps_its_lease_until_it_expires(tmp_path):
    holder(tmp_path, 3, host="node7", pid=2**22 + 1)
    assert acquire(tmp_path) is None
    holder(tmp_path, 3, host="node7", pid=2**22 + 1, expires=time.time() - 1)
    assert acquire(tmp_path).number == 4


def test_a_holder_in_another_container_of_this_name_keeps_its_lease_until_it_expires(tmp_path):
    assert not is_held_elsewhere(tmp_path)
    holder(tmp_path, 3, space="another", pid=2**22 + 1)
    assert acquire(tmp_path) is None and is_held_elsewhere(tmp_path)
    holder(tmp_path, 3, space="another", pid=2**22 + 1, expires=time.time() - 1)
    assert not is_held_elsewhere(tmp_path) and acquire(tmp_path).number == 4
    assert not is_held_elsewhere(tmp_path)


def test_who_looked_long_ago_does_not_win(tmp_path, monkeypatch):
    """It saw 3 as free, slept, and 4 and 5 have been given since, 4 is cleared away: 4 can be created, but not held."""
    holder(tmp_path, 3, expires=0.0)
    real = leases._is_free

    def sleepy(file):
        free = real(file)
        holder(tmp_path, 5)
        return free

    monkeypatch.setattr(leases, "_is_free", sleepy)
    assert acquire(tmp_path) is None
    assert not (tmp_path / "00000004").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def refuse(**_):
        raise OSError(errno.EROFS, "Read-only file system", f"{tmp_path}/.lease.abc123")

    monkeypatch.setattr(leases.tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(OSError, match="Read-only") as caught:
        acquire(tmp_path)
    assert caught.value.filename == str(tmp_path)


def test_holding_waits_no_longer_than_its_patience(tmp_path):
    holder(tmp_path, 1)
    with pytest.raises(TimeoutError, match="held by another process"), holding(tmp_path, patience=0.1):
        pass


def test_holding_releases_on_an_error(tmp_path):
    with pytest.raises(ValueError, match="inside"), holding(tmp_path, patience=0):
        raise ValueError("inside")
    assert is_idle(tmp_path)


CONTENDER = """
import sys, pathlib
from harness.leases import holding
folder = pathlib.Path(sys.argv[1])
for _ in range(20):
    with holding(folder / "lease", patience=60):
        count = int((folder / "count").read_text())
        (folder / "count").write_text(str(count + 1))
"""


@pytest.mark.slow
def test_processes_exclude_each_other(tmp_path):
    (tmp_path / "count").write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", CONTENDER, str(tmp_path)]) for _ in range(4)]
    assert [process.wait(timeout=100) for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "80"
