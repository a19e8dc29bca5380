"""Real MLflow servers on the loopback address, and a proxy before them that behaves badly."""

import http.client
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.tracking.store import environment
from harness.tracking.ui import Service


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server on a store, in a process group of its own."""

    def __init__(self, store: str, folder: Path, *, serve: bool = False, locked: bool = False) -> None:
        self.store, self.port, self.folder = store, free_port(), folder
        self.command = Service(uri=store, port=self.port, serve=serve, locked=locked).command()
        self.address = f"http://127.0.0.1:{self.port}"
        (folder / "elsewhere").mkdir(exist_ok=True)

    def start(self) -> None:
        settings = {**os.environ, **environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=settings,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder / "elsewhere",
            )
        until = time.monotonic() + 200
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=2)
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        pytest.fail((self.folder / "server.log").read_text()[-2000:])

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Proxy:
    """Forwards requests to a server; before each, `fault` says what goes wrong with it.

    "" nothing, "cut": the server does it and the answer is lost, an HTTP status such as "500" without asking the
    server, "hang": no answer for a minute, or a number of seconds of delay.
    """

    def __init__(self, port: int, fault: Callable[[str], Any]) -> None:
        self.server_port, self.fault, self.faults = port, fault, 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *words: Any) -> None:
                pass

            def handle_request(self) -> None:
                proxy.handle(self)

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_request

        self.listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.listener.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.listener.server_address[1]}"
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.listener.shutdown()
        self.listener.server_close()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        fault = self.fault(request.path)
        self.faults += bool(fault)
        if isinstance(fault, str) and fault.isdigit():
            request.send_error(int(fault))
            return
        if fault == "hang":
            time.sleep(60)
        elif fault and fault != "cut":
            time.sleep(fault)
        try:
            status, content = self._forward(request, body)
        except OSError:
            request.close_connection = True  # the server is down
            return
        if fault == "cut":
            request.close_connection = True
            return
        request.send_response(status)
        request.send_header("content-type", "application/json")
        request.send_header("content-length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server_port, timeout=120)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "connection")}
        connection.request(request.command, request.path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
