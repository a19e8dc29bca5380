"""A headless Chromium, driven over the two pipes of its own protocol."""

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 120.0
"""Seconds for one answer, on a busy machine."""


class Tab:
    """One page: what it shows, what it says on its console, and what it asks the network for."""

    def __init__(self, requests: int, answers: int) -> None:
        self._out, self._in, self._buffer, self._number = requests, answers, b"", 0
        self.problems: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    _session: str | None = None

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the browser and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        for answer in self._messages():
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
        raise AssertionError(f"Chromium has ended before it answered {method}")

    def _messages(self) -> Iterator[dict[str, Any]]:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            head, found, rest = self._buffer.partition(b"\0")
            if not found:
                more = os.read(self._in, 1 << 20)
                if not more:
                    return
                self._buffer += more
                continue
            self._buffer = rest
            message = json.loads(head)
            self._note(message)
            yield message

    def _note(self, message: dict[str, Any]) -> None:
        method, facts = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.problems.append(str(facts["exceptionDetails"]))
        if method == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning"):
            self.problems.append(str(facts["args"]))
        if method == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
            self.problems.append(facts["entry"]["text"])
        if method == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])

    def open(self, url: str) -> None:
        """Load a page and wait for it."""
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def until(self, expression: str) -> None:
        """Wait until the expression holds in the page."""
        end = time.monotonic() + PATIENCE
        while not self.ask(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.05)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "", modifiers: int = 0) -> None:
        """A key of the keyboard, down and up. modifiers: 8 for Shift."""
        same = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", **same, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **same)

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """The window's size, and the colours that the reader's system prefers."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        wanted = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[wanted])

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write what the window shows, or the whole page, as PNG."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))


@contextmanager
def tab(program: str, folder: Path) -> Iterator[Tab]:
    """A fresh browser with its profile in `folder`; it is gone at the end."""
    (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
    command = [program, *START, f"--user-data-dir={folder}", "about:blank"]
    script = f'exec "$@" 3<&{their_in} 4>&{their_out}'
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command], pass_fds=(their_in, their_out), stdout=log, stderr=log
        )
    os.close(their_in)
    os.close(their_out)
    try:
        opened = Tab(our_out, our_in)
        yield opened
        opened._session = None
        opened.call("Browser.close")
    finally:
        os.close(our_out)
        os.close(our_in)
        process.terminate()
        process.wait(PATIENCE)
