"""One process of a training that tests kill: FOLDER CHECKPOINT_SECONDS; RANK and the rest as torchrun sets them."""

import sys
from pathlib import Path

import torch

from harness.runs import RunPaths, next_attempt, read_spec
from harness.training import distributed, loop
from harness.training.session import Training


def main() -> None:
    """Train to the end."""
    torch.set_num_threads(1)
    paths = RunPaths(Path(sys.argv[1]))
    loop.CHECKPOINT_SECONDS = float(sys.argv[2])
    ranks = distributed.start(gpu=False)
    attempt = round(ranks.maximum(next_attempt(paths) if ranks.main else 0))
    training = Training(paths, read_spec(paths), ranks, attempt=attempt)
    print("ready", flush=True)
    loop.train(training)
    distributed.stop()


main()
