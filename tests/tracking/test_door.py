import asyncio
import base64

import pytest

from harness.tracking.door import Door, accepted

BASIC = b"Basic " + base64.b64encode(b"anna:s3cret")
BOTH = {"MLFLOW_TRACKING_USERNAME": "anna", "MLFLOW_TRACKING_PASSWORD": "s3cret", "MLFLOW_TRACKING_TOKEN": "t0ken"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, []),
        ({"MLFLOW_TRACKING_USERNAME": "anna"}, []),
        ({"MLFLOW_TRACKING_USERNAME": "anna", "MLFLOW_TRACKING_PASSWORD": ""}, []),
        ({"MLFLOW_TRACKING_TOKEN": "t0ken"}, [b"Bearer t0ken"]),
        (BOTH, [BASIC, b"Bearer t0ken"]),
    ],
)
def test_what_opens_the_door(environ, expected):
    assert accepted(environ) == expected


def knock(path, headers, kind="http"):
    """The status that a request gets; 200 from behind the door."""
    sent = []

    async def behind(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    asyncio.run(Door(behind, accepted(BOTH))({"type": kind, "path": path, "headers": headers}, None, send))
    return sent[0]["status"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", [], 401),
        ("/", [(b"authorization", BASIC)], 200),
        ("/", [(b"authorization", b"Bearer t0ken")], 200),
        ("/", [(b"authorization", b"Bearer t0ke")], 401),
        ("/", [(b"authorization", b"")], 401),
        ("/health", [], 200),
        ("/health/../api/2.0/mlflow/experiments/search", [], 401),
    ],
)
def test_who_comes_in(path, headers, status):
    assert knock(path, headers) == status


def test_websockets_do_not_pass_by():
    assert knock("/", [], kind="websocket") == 401
