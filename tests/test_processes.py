import os
import subprocess
import sys
import time

from harness.processes import is_working, start_time


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
