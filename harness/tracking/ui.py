"""MLflow's own pages on a store."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable

from harness.errors import UserError
from harness.tracking.store import absolute, database, environment, shown

HOST = "127.0.0.1"
PORT = 5000


def ui_command(uri: str, port: int = PORT) -> list[str]:
    """The command that serves a store's pages on this machine alone, from whatever working folder."""
    where = ["--backend-store-uri", absolute(uri), "--host", HOST, "--port", str(port), "--workers", "1"]
    file = database(uri)
    artifacts = ["--artifacts-destination", (file.parent / "mlartifacts").as_uri()] if file else []
    return [sys.executable, "-m", "mlflow", "ui", *where, *artifacts]


def open_ui(uri: str, port: int | None = None, say: Callable[[str], object] = sys.stdout.write) -> int:
    """Serve a store's pages until Ctrl-C and give the exit status; of a store that is a server, say its address.

    port: PORT, or the next free one, where None. Raises UserError where the port is taken or there is no store.
    """
    file = database(uri)
    if file is None and uri.startswith("http"):
        say(f"{shown(uri)} is a server: open it in a browser\n")
        return 0
    if file is not None and not file.exists():
        raise UserError(f"tracking store {shown(absolute(uri))}: no such file: nothing has been tracked there yet")
    chosen = _free_port() if port is None else port
    if not _is_free(chosen):
        raise UserError(f"port {chosen} is taken: choose another one with --port")
    say(f"MLflow on {shown(absolute(uri))}: http://{HOST}:{chosen} (Ctrl-C ends it)\n")
    settings = {**os.environ, **environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen(ui_command(uri, chosen), env=settings) as server:
        try:
            return server.wait()
        except KeyboardInterrupt:
            server.terminate()
            return 0


def _free_port() -> int:
    free = next((port for port in range(PORT, PORT + 100) if _is_free(port)), None)
    if free is None:
        raise UserError(f"no free port from {PORT} to {PORT + 99}: choose one with --port")
    return free


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
