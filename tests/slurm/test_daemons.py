"""What the testbed does with processes, without SLURM."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import MARK, Daemon, end, ensure, working

from slurm.conftest import TESTBED


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "log").mkdir()
    yield tmp_path
    end(working(tmp_path), signal.SIGKILL)


def sleeper(state: Path, *, ready: bool = True, command: str = "sleep 300", port: int | None = None) -> Daemon:
    return Daemon(name="sleeper", command=command, ready=lambda: ready, port=port)


def test_a_daemon_is_known_by_its_mark_until_it_ends_though_nobody_reaps_it(state: Path) -> None:
    environment = os.environ | {MARK: f"{state}:sleeper"}
    with subprocess.Popen(["sleep", "300"], env=environment) as child:
        assert working(state, "sleeper") == working(state) == [child.pid]
        assert working(state, "other") == working(state / "other") == []
        end([child.pid], signal.SIGTERM)
        assert Path(f"/proc/{child.pid}").exists()  # a zombie
        assert working(state) == []


def test_what_answers_is_left_alone(state: Path) -> None:
    ensure(sleeper(state), state)
    first = working(state, "sleeper")
    ensure(sleeper(state), state)
    assert working(state, "sleeper") == first


def test_one_that_ignores_the_signal_is_killed(state: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(300)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        end([child.pid], signal.SIGTERM, patience=0.2)
        assert child.wait() == -signal.SIGKILL


def test_one_that_ends_at_once_is_told_with_its_last_words(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        ensure(sleeper(state, ready=False, command="ls --no-such-option"), state)
    assert error.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: sleeper does not work; ")
    assert "no-such-option" in said
    assert said.count("\n") == 1


@pytest.mark.slow
def test_a_port_that_is_taken_is_told(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SystemExit):
            ensure(sleeper(state, port=port), state)
    assert capsys.readouterr().err.startswith(f"error: port {port} of sleeper is taken by another program")
    assert working(state) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="root becomes nobody here")
def test_not_root_is_one_clear_line() -> None:
    code = "import os, sys; os.setuid(65534); sys.argv = ['x', 'up']; testbed.main()"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(TESTBED)!r}); import testbed; {code}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: the SLURM testbed needs root on Debian; run this in a container of Debian, as root\n"
