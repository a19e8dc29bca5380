"""A pilot: a training that goes on from its own checkpoint halfway, as a job does after a requeue."""

import gc
import time
from collections.abc import Callable

from harness.training.loop import train
from harness.training.session import Training
from harness.training.watch import Watch


def resumed_halfway(
    make: Callable[[], Training], *, stop: Callable[[], bool], on_row: Callable[[str], None], watch: Watch
) -> Training:
    """The training of `make` when its first epoch is done, gone on from the checkpoint of that, which is timed.

    Every rank calls it. Where `stop` said so before, the training as it is then.
    Raises UserError as `train` does.
    """
    training = make()
    if training.position.epoch:
        return training
    step = _train_an_epoch(training, stop=stop, on_row=on_row, watch=watch)
    del training  # two models at once would be no usual peak of memory
    gc.collect()
    watch.phase("start", step)
    began = time.monotonic()
    resumed = make()
    watch.times.resume = time.monotonic() - began
    return resumed


def _train_an_epoch(
    training: Training, *, stop: Callable[[], bool], on_row: Callable[[str], None], watch: Watch
) -> int:
    """Iterations that are done then."""
    train(training, stop=lambda: stop() or training.position.epoch > 0, on_row=on_row, watch=watch)
    return training.position.step
