"""One process of an attempt to which something happens: FOLDER ATTEMPT RANK:EVENT:STEP ...; RANK as torchrun sets it.

EVENT, on that rank before the iteration after STEP: sleep (in loading data), freeze (holding the interpreter), slow
(half a second in loading data from then on), image (cannot be read), kill (-9).
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from training.tiny import tiny_backbone

from harness.errors import UserError
from harness.launching import job
from harness.training import loop
from harness.training.images import TrainingImages
from harness.training.watch import Limits

LIMITS = Limits(step=4.0, start=60.0, silence=4.0, poll=0.3)


def happen(event: str) -> None:
    """What the event is."""
    if event == "sleep":
        time.sleep(600)
    elif event == "freeze":
        ctypes.PyDLL(None).sleep(600)
    elif event == "slow":
        time.sleep(0.5)
    elif event == "image":
        raise UserError("a.jpg: broken")
    elif event == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    """Work on the run, events included; the attempt's exit code."""
    torch.set_num_threads(1)
    folder, attempt, *events = sys.argv[1:]
    mine = [
        (name, int(step)) for rank, name, step in (event.split(":") for event in events) if rank == os.environ["RANK"]
    ]
    epoch = TrainingImages.epoch

    def eventful(self: TrainingImages, number: int, *arguments: Any, **options: Any) -> Iterator[Any]:
        for iteration, batches in enumerate(epoch(self, number, *arguments, **options)):
            for name, step in mine:
                now = number * self.iterations + iteration
                if now == step or (name == "slow" and now > step):
                    happen(name)
            yield batches

    TrainingImages.epoch = eventful  # type: ignore[method-assign]
    loop.LOG_INTERVAL = 1
    job._start_shipper = lambda *_: subprocess.Popen([sys.executable, "-c", ""])  # type: ignore[assignment]
    with tiny_backbone():
        return job.run_attempt(Path(folder), "", attempt=int(attempt), limits=replace(LIMITS))


sys.exit(main())
