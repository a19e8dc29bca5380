"""The testbed's processes: which are ours, starting and ending them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

MARK = "SLURM_TESTBED_DAEMON"
"""The environment variable that makes a process a daemon of ours: STATE_FOLDER:NAME. Unlike a pid file it is never

stale, and no stranger's process is ended."""
HELPERS = ("slurmscriptd", "slurmstepd")
"""What slurmctld and slurmd start, sometimes with their mark: the one ends with slurmctld, the other with its job."""
PATIENCE = 30.0
"""Seconds for a daemon to answer after its start, on a machine that is busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A program that stays in the foreground, and how to see that it works."""

    name: str
    command: str  # split at spaces
    ready: Callable[[], bool]
    port: int | None = None
    environment: dict[str, str] = field(default_factory=dict)


def fail(text: str) -> SystemExit:
    """To be raised: the text has been said on stderr, and the exit code is 2."""
    sys.stderr.write(f"error: {text}\n")
    return SystemExit(2)


def ensure(daemon: Daemon, state: Path) -> None:
    """Have the daemon run and answer: one that does is left alone, one that hangs is started anew.

    Leaves the program with the end of the daemon's log where it does not come to answer.
    """
    if working(state, daemon.name) and wait_until(daemon.ready, 5):
        return
    end(working(state, daemon.name), signal.SIGKILL)
    port = daemon.port  # what was killed may keep it for a moment
    if port is not None and not wait_until(lambda: not connects(port), 5):
        raise fail(f"port {port} of {daemon.name} is taken by another program (ss -ltnp says which); end that")
    log = state / "log" / f"{daemon.name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            daemon.command.split(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | daemon.environment | {MARK: f"{state}:{daemon.name}"},
            cwd=state,
            start_new_session=True,
        )
    wait_until(lambda: process.poll() is not None or daemon.ready(), PATIENCE)
    if process.poll() is not None or not daemon.ready():
        end(working(state, daemon.name), signal.SIGKILL)
        tail = " | ".join(log.read_text(errors="replace").splitlines()[-3:])
        raise fail(f"{daemon.name} does not work; {log} ends: {tail}")


def working(state: Path, name: str = "") -> list[int]:
    """The process of a daemon (without a name: of every daemon) that this state folder belongs to."""
    mark = f"{state}:{name}"
    return [
        pid
        for pid, environment in _environments()
        if ((value := environment.get(MARK, "")) == mark or (not name and value.startswith(mark)))
        and _command(pid) not in HELPERS
    ]


def other_states(state: Path) -> set[str]:
    """The state folders of other testbeds that are up on this machine."""
    marks = {environment.get(MARK, f"{state}:").rpartition(":")[0] for _, environment in _environments()}
    return marks - {str(state)}


def tasks(state: Path) -> list[int]:
    """The processes that jobs of this testbed consist of: slurmd gives them its SLURM_CONF."""
    return [pid for pid, environment in _environments() if "SLURM_JOB_ID" in environment and _of(state, environment)]


def helpers(state: Path) -> list[int]:
    """SLURM's own processes beside the daemons and jobs of this testbed."""
    return [pid for pid, environment in _environments() if _of(state, environment) and _command(pid) in HELPERS]


def _of(state: Path, environment: dict[str, str]) -> bool:
    return environment.get("SLURM_CONF") == f"{state}/etc/slurm.conf"


def end(pids: Iterable[int], number: signal.Signals, patience: float = 10.0) -> None:
    """Signal processes and wait until they have ended; those that have not by then are killed."""
    left = list(pids)
    for sent in (number, signal.SIGKILL):
        for pid in left:
            _signal(pid, sent)
        if wait_until(lambda: not any(map(_alive, left)), patience):
            return


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in time."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.05)
    return True


def connects(port: int) -> bool:
    """Whether something listens on this port of the loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _environments() -> Iterator[tuple[int, dict[str, str]]]:
    """Of every process. One that has ended has none, even where nobody reaps it and it stays a zombie for ever."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "environ").read_text(errors="replace")
        except OSError:
            continue
        yield int(folder.name), dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
