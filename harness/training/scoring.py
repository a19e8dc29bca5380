"""Scoring beside the training: the next epoch goes on while a process works out what the last one's detections score.

What a test has found is on the disk before the training goes on, and stays there until its val row is: an attempt that
ends before leaves it to the next one, which needs neither the model nor the checkpoint for that.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from harness.errors import UserError
from harness.evaluation.table import DetectionTable
from harness.failures import Failure
from harness.files import replacing
from harness.processes import blocked
from harness.provenance import python_path
from harness.run_paths import RunPaths, require_own
from harness.training.background import Background
from harness.training.scorer import USER_ERROR, read_unscored
from harness.training.validation import Validation

PATIENCE = 5.0
"""Seconds for which an attempt that is stopped waits for the scoring; then it leaves it to the next one.

Little against the 30 s that SLURM leaves by default between SIGTERM and SIGKILL.
"""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Meant for the training, which waits for the scoring; SLURM sends them to every process of a job."""

Row = dict[str, Any]


class Scoring:
    """On rank 0: the detections that are being scored, of one test at most.

    record: gets the head of the val row, as `begin` was given it, and the numbers; what it writes is on the disk when
    it returns. As a context it ends with the attempt.
    """

    def __init__(self, paths: RunPaths, split: Validation, *, attempt: int, record: Callable[[Row, Row], None]) -> None:
        self.paths, self.split, self.attempt, self.record = paths, split, attempt, record
        self.head: Row | None = None  # of the val row that is to come
        self._process: subprocess.Popen[bytes] | None = None
        self._outcome: Background[Row] = Background("scoring")

    def begin(self, found: DetectionTable, head: Row) -> None:
        """Put what was found on the disk, and begin to score it; the test before is settled.

        head: of the val row: mode, epoch, iter, step, lr, checkpoint_sha256.
        Raises UserError where the disk is full, a later attempt has the run, or the scoring before has failed.
        """
        self.settle()
        require_own(self.paths, self.attempt)
        with replacing(self.paths.unscored, durable=True) as temporary, temporary.open("wb") as file:
            found.save(file, head)
        self._start(head)

    def take_up(self, step: int, is_scored: Callable[[int, str], bool]) -> None:
        """Score what an earlier attempt has left, if its test is among the first `step` iterations.

        is_scored: whether nothing is to be done any more for a test, by its step and the checkpoint's sha256.
        Raises UserError where it is damaged.
        """
        if not self.paths.unscored.exists():
            return
        _, head = read_unscored(self.paths)
        if head["step"] > step or is_scored(head["step"], head["checkpoint_sha256"]):
            self.paths.unscored.unlink()  # the training has gone back before it, or it only was not removed
        else:
            self._start(head)

    def is_of(self, checkpoint: str) -> bool:
        """Whether the test of the checkpoint with this sha256 is being scored."""
        return self.head is not None and self.head["checkpoint_sha256"] == checkpoint

    @property
    def done(self) -> bool:
        """Whether `settle` would not wait."""
        return self._outcome.done

    def settle(self) -> None:
        """Record the numbers when they are there; nothing, where no scoring was begun.

        Raises UserError where the scoring failed by something that a user can mend; other failures are RuntimeError.
        """
        numbers = self._outcome.wait()
        if numbers is None:
            return
        assert self.head is not None
        require_own(self.paths, self.attempt)
        self.record(self.head, numbers)
        self.paths.unscored.unlink(missing_ok=True)
        self.head = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait a little, unless told to stop at once (Ctrl-C); an error that is under way counts for more."""
        if kind is None:
            self._leave()
        elif issubclass(kind, Exception):
            with suppress(Exception):
                self._leave()
        self._kill()

    def _leave(self) -> None:
        if self._outcome.done_within(PATIENCE):
            self.settle()

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()  # it has files open

    def _start(self, head: Row) -> None:
        command = [sys.executable, "-P", "-m", "harness.training.scorer", str(self.paths.folder)]
        command += ["--parent", str(os.getpid())]
        # No pipe: workers that are forked meanwhile would have its other end open, so that it did not end.
        with tempfile.TemporaryFile() as given, blocked(SIGNALS):  # in the process, too, for as long as it lives
            given.write(_request(self.split, self.attempt))
            given.seek(0)
            process = subprocess.Popen(
                command,
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": python_path()},
                start_new_session=True,
            )
        self.head, self._process = head, process
        self._outcome.start(lambda: _answer(process))


def _request(split: Validation, attempt: int) -> bytes:
    asked = {"attempt": attempt, "annotations": str(split.annotations), "image_ids": split.image_ids}
    return json.dumps(asked).encode()


def _answer(process: "subprocess.Popen[bytes]") -> Row:
    """What the process says in the end; its failure as an exception."""
    out, err = process.communicate()
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        told = (
            f"{socket.gethostname()}: the process that scores detections was killed by {name}, most likely for want of "
            "memory; give the run more memory, then start again"
        )
        raise UserError(told, failure=Failure.MEMORY)
    if process.returncode not in (0, USER_ERROR):
        raise RuntimeError(f"the process that scores detections failed:\n{err.decode(errors='replace')}")
    said: Row = json.loads(out)
    if process.returncode == USER_ERROR:
        raise UserError(said["error"], failure=Failure(said["failure"]))
    return said
