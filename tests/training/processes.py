"""Processes for tests that kill them: forked from a server that has imported torch, so that each starts in a moment."""

import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

from harness.run_paths import RunPaths, next_attempt
from harness.run_spec import read_spec
from harness.training import distributed, loop
from harness.training.session import Training
from training.tiny import tiny_backbone

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["harness.training.loop", "harness.launching.prepare", "pytest"])


def start(work: Callable[..., Any], *arguments: Any, world: int = 1, log: Path) -> list[ForkServerProcess]:
    """Processes that call work(*arguments) as the ranks of one training; what they print goes to log0, log1, ..."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    processes = []
    for rank in range(world):
        environment = {name: str(value) for name, value in (shared | {"RANK": rank, "LOCAL_RANK": rank}).items()}
        given = (environment, Path(f"{log}{rank}"), work, arguments)
        processes.append(CONTEXT.Process(target=_begin, args=given))
        processes[-1].start()
    return processes


def _begin(environment: dict[str, str], log: Path, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of workers, as in a process of its own
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    work(*arguments)
    distributed.stop()


def finish(processes: list[ForkServerProcess], log: Path, seconds: float = 300.0) -> None:
    """Wait for an end without fault."""
    deadline = time.monotonic() + seconds
    for rank, process in enumerate(processes):
        process.join(max(0.0, deadline - time.monotonic()))
        if process.exitcode != 0:
            kill(processes)
            raise AssertionError(f"rank {rank}: {process.exitcode}\n{Path(f'{log}{rank}').read_text()[-3000:]}")


def kill(processes: list[ForkServerProcess]) -> None:
    """End them all at once, as kill -9 does."""
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


def train(folder: Path, checkpoint_seconds: float, small: bool = True) -> None:
    """The work of a rank: a training to its end, as the run's next attempt. small: with the backbone of tiny.py."""
    paths = RunPaths(folder)
    loop.CHECKPOINT_SECONDS = checkpoint_seconds
    ranks = distributed.start(gpu=False)
    attempt = round(ranks.maximum(next_attempt(paths) if ranks.main else 0))
    with tiny_backbone(small):
        loop.train(Training(paths, read_spec(paths), ranks, attempt=attempt))
