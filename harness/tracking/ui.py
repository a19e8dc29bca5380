"""MLflow's own pages on a store, for this machine, or its server for others."""

import errno
import ipaddress
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import UserError
from harness.tracking.door import accepted
from harness.tracking.home import require_home
from harness.tracking.store import Store, absolute, database, environment, shown

HOST = "127.0.0.1"
PORT = 5000
WORKERS = 4
"""Processes of a server for many runs, at most, and one a core; one is enough to look at pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What to serve, and to whom."""

    uri: str
    host: str = HOST
    port: int = PORT
    serve: bool = False  # to other programs and hosts, not only to this machine's browser
    locked: bool = False  # behind the door (door.py)

    def command(self) -> list[str]:
        """The server's command line; the same from whatever working folder. It holds no password."""
        where = ["--backend-store-uri", absolute(self.uri), "--host", self.host, "--port", str(self.port)]
        file = database(self.uri)
        artifacts = ["--artifacts-destination", (file.parent / "mlartifacts").as_uri()] if file else []
        workers = ["--workers", str(min(WORKERS, len(os.sched_getaffinity(0))) if self.serve else 1)]
        door = ["--app-name", "harness"] if self.locked else []
        return [sys.executable, "-m", "mlflow", "server", *where, *workers, *artifacts, *door, *self._names()]

    def _names(self) -> list[str]:
        """Beyond the loopback address: the names by which browsers may call the server."""
        if is_loopback(self.host):
            return []
        names = sorted({self.host, socket.gethostname(), socket.getfqdn(), "localhost", HOST})
        hosts = [text for name in names for text in (name, f"{name}:{self.port}")]
        origins = [f"http://{name}:{self.port}" for name in names]
        return ["--allowed-hosts", ",".join([*hosts, *PRIVATE]), "--cors-allowed-origins", ",".join(origins)]


PRIVATE = ("10.*", "192.168.*", *(f"172.{number}.*" for number in range(16, 32)))
"""Addresses within a site, which MLflow allows unless told otherwise."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_ui(
    uri: str,
    port: int | None = None,
    *,
    serve: bool = False,
    host: str = HOST,
    say: Callable[[str], object] = sys.stdout.write,
) -> int:
    """Serve a store until Ctrl-C and give the exit status; of a store that is a server, say its address.

    port: PORT, or the next free one, where None. serve: for runs and people elsewhere, behind the credentials of the
    environment where it has some; without them only on a loopback address.
    Raises UserError where the port is taken, there is no store, or `host` would open it to everybody.
    """
    if uri.startswith("http"):
        if serve:
            raise UserError(
                f"{shown(uri)} is a server; to start one, name its store: HARNESS_TRACKING_URI=sqlite:///FILE"
            )
        say(f"{shown(uri)} is a server: open it in a browser\n")
        return 0
    locked = serve and bool(accepted(os.environ))
    if not is_loopback(host) and not locked:
        raise UserError(
            f"everybody who reaches {host} could read and change the store; set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN) here and where runs track to it, and add --serve"
        )
    _require_store(uri, create=serve)
    chosen = _free_port(host) if port is None else port
    if not _is_free(host, chosen):
        raise UserError(f"port {chosen} is taken: choose another one with --port")
    return _run(Service(uri=uri, host=host, port=chosen, serve=serve, locked=locked), say)


def _require_store(uri: str, *, create: bool) -> None:
    file = database(uri)
    if file is None:
        return
    if not file.exists() and not create:
        raise UserError(f"tracking store {shown(absolute(uri))}: no such file: nothing has been tracked there yet")
    require_home(file)
    if not file.exists():
        Store(uri)


def _run(service: Service, say: Callable[[str], object]) -> int:
    lock = ", for who has the credentials of this environment" if service.locked else ""
    name = socket.gethostname() if service.host in ("0.0.0.0", "::") else service.host
    page = f"http://{name}:{service.port}/#/experiments?workflowType=machine_learning"
    say(f"MLflow on {shown(absolute(service.uri))}{lock} (Ctrl-C ends it): {page}\n")
    settings = {**os.environ, **environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen(service.command(), env=settings) as server:
        try:
            return server.wait()
        except KeyboardInterrupt:
            server.terminate()
            return 0


def _free_port(host: str) -> int:
    free = next((port for port in range(PORT, PORT + 100) if _is_free(host, port)), None)
    if free is None:
        raise UserError(f"no free port from {PORT} to {PORT + 99}: choose one with --port")
    return free


def _is_free(host: str, port: int) -> bool:
    """Raises UserError where `host` is no address of this machine."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise UserError(f"{host} is not an address of this machine; name another --host") from None
        return False
    return True
