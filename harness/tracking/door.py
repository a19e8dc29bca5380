"""MLflow's server behind a lock: who reads or writes must bring what the server's environment has.

Server and clients have the same variables: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (a browser asks for
them), or MLFLOW_TRACKING_TOKEN. They are never written anywhere. pyproject.toml makes this MLflow's app "harness".
"""

import base64
import hmac
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

OPEN = ("/health", "/version")
"""Paths that tell nothing but that a server is there."""


def accepted(environ: Mapping[str, str]) -> list[bytes]:
    """The Authorization headers that open the door; none where the environment has no credentials."""
    name, password = (environ.get(f"MLFLOW_TRACKING_{part}", "") for part in ("USERNAME", "PASSWORD"))
    token = environ.get("MLFLOW_TRACKING_TOKEN", "")
    basic = b"Basic " + base64.b64encode(f"{name}:{password}".encode())
    return [*([basic] if name and password else []), *([b"Bearer " + token.encode()] if token else [])]


REFUSAL = b"set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, as the server has them"


class Door:
    """An ASGI application that lets through to `app` what brings one of the accepted headers."""

    def __init__(self, app: App, headers: list[bytes]) -> None:
        self.app, self.headers = app, headers

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer 401 to others."""
        if scope["type"] == "lifespan" or scope["path"] in OPEN or self._knows(scope):
            await self.app(scope, receive, send)
            return
        headers = [(b"www-authenticate", b'Basic realm="MLflow"'), (b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": REFUSAL})

    def _knows(self, scope: dict[str, Any]) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return any(hmac.compare_digest(given, header) for header in self.headers)


def __getattr__(name: str) -> Any:
    """`app`, made when the server asks for it."""
    if name != "app":
        raise AttributeError(name)
    from mlflow.server.fastapi_app import app

    return Door(app, accepted(os.environ))
