"""A real SLURM on one Debian machine, for tests: `testbed.py up` and `testbed.py down`, as root.

slurmctld, four slurmd with eight CPUs and eight pretended GPUs each, munge, and slurmdbd with MariaDB. All of it
listens on the loopback alone and keeps its state in one folder (but for the nodes' names, a line of /etc/hosts).
Missing packages are installed; their own services stay off.
"""

import argparse
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from string import Template

from daemons import Daemon, connects, end, ensure, fail, helpers, other_states, tasks, wait_until, working

HERE = Path(__file__).resolve().parent
STATE = HERE.parent.parent / ".slurm-testbed"
PACKAGES = {"slurmctld": "slurm-wlm", "slurmdbd": "slurmdbd", "munged": "munge", "mariadbd": "mariadb-server"}
"""Program -> the package that brings it (slurm-wlm brings slurmd and the commands)."""
FILES = ("slurm.conf", "gres.conf", "cgroup.conf", "slurmdbd.conf")
NODES = {"n1": 17001, "n2": 17002, "n3": 17003, "n4": 17004}
GPUS = 8
CGROUP = """ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/cgroup"""
NO_CGROUP = """ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux"""


def main() -> None:
    """Entry."""
    parser = argparse.ArgumentParser(description="A real SLURM on this machine, for tests.")
    parser.add_argument("command", choices=("up", "down"))
    parser.add_argument("--state", type=Path, default=STATE, help="folder of all its state (default: %(default)s)")
    arguments = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise fail("the SLURM testbed needs root on Debian; run this in a container of Debian, as root")
    os.umask(0o022)
    started = time.monotonic()
    state = arguments.state.resolve()
    with only_one():
        up(state) if arguments.command == "up" else down(state)
    sys.stdout.write(f"SLURM testbed {arguments.command} in {time.monotonic() - started:.1f} s\n")
    if arguments.command == "up":
        sys.stdout.write(f"export SLURM_CONF={state}/etc/slurm.conf\n")


def only_one() -> socket.socket:
    """Wait until no other up or down is at work on this machine; the name goes with the process that bound it."""
    mutex = socket.socket(socket.AF_UNIX)

    def bound() -> bool:
        try:
            mutex.bind("\0slurm-testbed")
        except OSError:
            return False
        return True

    if not wait_until(bound, 120):
        raise fail("another up or down of the SLURM testbed has been at work for two minutes; end it")
    return mutex


def up(state: Path) -> None:
    """Bring the cluster up, from nothing or from any half-dead state; what works is left alone."""
    for other in other_states(state):
        raise fail(f"the testbed in {other} is up; first: {HERE / 'testbed.py'} down --state {other}")
    if len(str(state)) > 80 or len(str(state).split()) > 1:
        raise fail(f"{state}: SLURM wants a path without spaces, and sockets one below 80 characters; give --state")
    install()
    if configure(state):
        end(working(state), signal.SIGTERM)
    create_database(state)
    munge, database, accounting, controller, *nodes = daemons(state)
    for daemon in (munge, database, accounting):
        ensure(daemon, state)
    add_accounts(state)
    for daemon in (controller, *nodes):
        ensure(daemon, state)
    resume_nodes(state)


def down(state: Path) -> None:
    """Cancel every job and end every process of this testbed, and no other. The state folder stays."""
    if _answers(state, "scontrol ping") and (jobs := client(state, "squeue --all --noheader --format=%A").split()):
        client(state, f"scancel --quiet {' '.join(jobs)}")
        end(tasks(state), signal.SIGKILL)
        wait_until(lambda: not client(state, "squeue --all --noheader"), 10)
    for daemon in reversed(daemons(state)):
        end(working(state, daemon.name), signal.SIGTERM)
    end(tasks(state) + helpers(state), signal.SIGKILL)


def install() -> None:
    """Install what is missing, with the packages' own services kept from starting."""
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    policy = Path("/usr/sbin/policy-rc.d")
    keep_off = bool(missing) and not policy.exists()
    if keep_off:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        if missing:
            _apt("update", "-qq")
            _apt("install", "-y", "-qq", "--no-install-recommends", *missing)
    finally:
        if keep_off:
            policy.unlink()


def _apt(*arguments: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    command = ("apt-get", *arguments)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise fail(f"'{' '.join(command)}' failed: {' | '.join(done.stdout.splitlines()[-2:])}")


def configure(state: Path) -> bool:
    """Write the settings, the munge key, the devices and the nodes' names; whether the settings have changed."""
    for name in ("etc", "munge", "ctld", "run", "log", "dev", *(f"d/{node}" for node in NODES)):
        (state / name).mkdir(parents=True, exist_ok=True)
    key = state / "munge" / "munge.key"
    if not key.exists():
        half = key.with_name("half")  # a killed up leaves no broken key
        half.write_bytes(os.urandom(1024))
        half.chmod(0o400)
        half.rename(key)
    for number in range(GPUS):
        device = state / "dev" / f"nvidia{number}"
        if not device.exists():
            os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    hosts = Path("/etc/hosts")  # a rendezvous at MASTER_ADDR=n1 would wait for ever if n1 were no name
    known = hosts.read_text()
    if not any(line.split()[1:5] == [*NODES] for line in known.splitlines()):
        newline = "" if known.endswith("\n") else "\n"
        with hosts.open("a") as file:  # it may be mounted, and then cannot be replaced
            file.write(f"{newline}127.0.0.1 {' '.join(NODES)}  # SLURM testbed\n")
    changed = [_fill(name, state) for name in FILES]
    return any(changed)


def _fill(name: str, state: Path) -> bool:
    """Write a settings file from its template; whether it has changed."""
    groups = Path("/sys/fs/cgroup")
    contained = all((groups / controller / "cgroup.procs").exists() for controller in ("freezer", "memory", "cpuacct"))
    host = socket.gethostname().split(".")[0]
    text = Template((HERE / name).read_text()).substitute(
        state=state, host=host, containment=CGROUP if contained else NO_CGROUP
    )
    file = state / "etc" / name
    changed = not file.exists() or file.read_text() != text
    if changed:
        file.write_text(text)
        file.chmod(0o600 if name == "slurmdbd.conf" else 0o644)
    return changed


def create_database(state: Path) -> None:
    """An empty MariaDB in db/, where there is none; one half made has another name."""
    folder, half = state / "db", state / "db.half"
    if folder.exists():
        return
    shutil.rmtree(half, ignore_errors=True)
    command = ("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={half}", "--skip-test-db")
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise fail(f"mariadb-install-db failed: {' | '.join(done.stdout.splitlines()[-3:])}")
    half.rename(folder)


def daemons(state: Path) -> list[Daemon]:
    """All of them, in the order in which they need each other."""
    munge, database = state / "munge", state / "run" / "mariadb.socket"
    settings = {"SLURM_CONF": f"{state}/etc/slurm.conf", "MYSQL_UNIX_PORT": str(database)}
    return [
        Daemon(
            name="munged",
            command=f"munged --foreground --force --socket={munge}/munge.socket --key-file={munge}/munge.key "
            f"--seed-file={munge}/seed --pid-file={state}/run/munged.pid --log-file={state}/log/munge.log",
            ready=lambda: _answers(state, f"munge --no-input --socket={munge}/munge.socket"),
        ),
        Daemon(
            name="mariadbd",
            command=f"mariadbd --no-defaults --user=root --datadir={state}/db --socket={database} --skip-networking "
            f"--pid-file={state}/run/mariadb.pid --innodb-buffer-pool-size=64M",
            ready=lambda: _answers(state, f"mariadb-admin --no-defaults --socket={database} ping"),
        ),
        Daemon(
            name="slurmdbd",
            command="slurmdbd -D",
            ready=lambda: _answers(state, "sacctmgr --noheader --parsable2 list cluster"),
            port=16819,
            environment=settings,
        ),
        Daemon(
            name="slurmctld",
            command="slurmctld -D",
            ready=lambda: _answers(state, "scontrol ping"),
            port=16817,
            environment=settings,
        ),
        *(_node(name, port, settings) for name, port in NODES.items()),
    ]


def _node(name: str, port: int, settings: dict[str, str]) -> Daemon:
    command = f"slurmd -D -N {name}"
    return Daemon(name=name, command=command, ready=lambda: connects(port), port=port, environment=settings)


def add_accounts(state: Path) -> None:
    """The cluster, the account `lab` with the user root in it, and the quality of service `short`, of 30 minutes."""
    if "lab|root|normal,short" in client(state, "sacctmgr -nP list associations format=account,user,qos").split():
        return
    for command in (
        "add cluster testbed",
        "add account lab description=lab organization=lab",
        "add qos short",
        "modify qos short set MaxWall=30",
        "add user root account=lab",
        "modify user root set qos=normal,short",
    ):
        client(state, f"sacctmgr -i {command}")


def resume_nodes(state: Path) -> None:
    """Wait until every node takes jobs again, whatever made it leave."""

    def usable() -> bool:
        lines = client(state, "sinfo --noheader --Node --format=%N|%T").splitlines()
        good = {f"{node}|{word}" for node in NODES for word in ("idle", "mixed", "allocated", "completing")}
        return bool(lines) and good.issuperset(lines)

    if not wait_until(usable, 3):
        for node in NODES:
            client(state, f"scontrol update NodeName={node} State=RESUME")
    if not wait_until(usable, 30):
        raise fail(f"nodes do not come back: {client(state, 'sinfo --noheader --Node --long')}; see {state}/log")


def client(state: Path, command: str) -> str:
    """What a SLURM command says, whether it succeeds or not."""
    environment = os.environ | {"SLURM_CONF": f"{state}/etc/slurm.conf"}
    return subprocess.run(command.split(), env=environment, capture_output=True, text=True, timeout=60).stdout.strip()


def _answers(state: Path, command: str) -> bool:
    environment = os.environ | {"SLURM_CONF": f"{state}/etc/slurm.conf"}
    try:
        return subprocess.run(command.split(), env=environment, capture_output=True, timeout=5).returncode == 0
    except (subprocess.TimeoutExpired, FileNotFoundError):  # without the packages nothing answers
        return False


if __name__ == "__main__":
    main()
