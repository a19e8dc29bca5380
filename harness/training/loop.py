"""The training of one run: epochs of iterations, checkpoints, evaluation; stoppable and resumable at any iteration."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from harness.evaluation.speed import peak_memory_mb
from harness.recipe import to_dict
from harness.runs import merge_log, merged_rows
from harness.training import validation
from harness.training.environment import environment
from harness.training.journal import Journal
from harness.training.progress import TrainingProgress
from harness.training.session import Training
from harness.training.step import iterate

LOG_INTERVAL = 50
"""Iterations between two log rows; less in short epochs, so that there are LOG_ROWS of them."""
LOG_ROWS = 5
CHECKPOINT_SECONDS = 600.0
"""Between two checkpoints within an epoch; there is one at the end of each."""
SAVE, STOP = 1, 2


def train(
    training: Training,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_row: Callable[[str], None] = lambda text: None,
) -> bool:
    """Train from the present position to the end, or until `stop` says so on any rank (a checkpoint is then written).

    on_row gets a line about the progress at every log row. Returns whether the training has come to its end.
    Raises UserError where the loss is no longer finite or an image cannot be read.
    """
    ranks, at = training.ranks, training.position
    name = f"{training.spec.name} seed {training.spec.seed}"
    stopped = False
    with (
        _journal(training) as journal,
        TrainingProgress(name, training.total, at.step, shown=ranks.main, on_row=on_row) as shown,
    ):
        _validate_if_due(training, journal, shown)
        while not stopped and training.position.epoch < training.recipe.epochs:
            _epoch(training, journal, shown, stop)
            _save(training, journal)
            stopped = ranks.any(stop())
            if not stopped:
                _validate_if_due(training, journal, shown)
    if ranks.main:
        merge_log(training.paths)
    ranks.barrier()
    return not stopped


@contextmanager
def _journal(training: Training) -> Iterator[Journal | None]:
    """This attempt's segment of the journal, with its first row written; None on ranks that record nothing."""
    spec, ranks = training.spec, training.ranks
    if not ranks.main:
        yield None
        return
    with Journal(training.paths.segment(training.attempt)) as journal:
        journal.write(
            {
                "mode": "attempt",
                "attempt": training.attempt,
                "time": time.time(),
                "step": training.position.step,
                "env_info": environment(ranks.device, ranks.world),
                "seed": spec.seed,
                "exp_name": spec.name,
                "world": ranks.world,
                "device": ranks.device.type,
                "precision": spec.precision,
                "config": json.dumps(to_dict(training.recipe)),
            }
        )
        yield journal


def _epoch(training: Training, journal: Journal | None, shown: TrainingProgress, stop: Callable[[], bool]) -> None:
    """Train to the end of the present epoch, or until stopped."""
    ranks, at = training.ranks, training.position
    training.model.train()
    saved = last = time.monotonic()
    for micro_batches in training.images.epoch(at.epoch, ranks, start=at.iteration):
        loaded = time.monotonic()
        training.set_rate()
        losses = iterate(
            training.replica,
            micro_batches,
            training.optimizer,
            training.scaler,
            precision=training.spec.precision,
            micro_batches=training.recipe.batch // training.recipe.micro_batch,
            ranks=ranks,
        )
        now = time.monotonic()
        training.meter.add(losses, seconds=now - last, data_seconds=loaded - last)
        last = now
        training.advance()
        shown.advance()
        _log_if_due(training, journal, shown)
        if training.position.iteration == 0:
            return
        wish = round(ranks.maximum(STOP if stop() else SAVE if now - saved > CHECKPOINT_SECONDS else 0))
        if wish == STOP:
            return
        if wish == SAVE:
            _save(training, journal)
            saved = last = time.monotonic()


def _log_if_due(training: Training, journal: Journal | None, shown: TrainingProgress) -> None:
    at, each = training.position, training.images.iterations
    if at.iteration and at.iteration % max(1, min(LOG_INTERVAL, each // LOG_ROWS)):
        return
    averages = training.meter.read(training.ranks)
    training.require_finite(averages)
    row = {
        "mode": "train",
        "epoch": at.epoch + bool(at.iteration),
        "iter": at.iteration or each,
        "step": at.step,
        "lr": training.optimizer.param_groups[0]["lr"],
        "memory": round(training.ranks.maximum(peak_memory_mb(training.ranks.device))),
        **averages,
    }
    _record(training, journal, shown, row)


def _record(training: Training, journal: Journal | None, shown: TrainingProgress, row: dict[str, Any]) -> None:
    if journal is not None:
        journal.write(row)
        shown.row(row, training.recipe.epochs)


def _save(training: Training, journal: Journal | None) -> None:
    """Write a checkpoint; the rows before it are on the disk first, as a resumed training does not repeat them."""
    if journal is not None:
        journal.sync()
    training.save()


def _validate_if_due(training: Training, journal: Journal | None, shown: TrainingProgress) -> None:
    """Evaluate the checkpoint of a completed epoch, unless an earlier attempt has done so."""
    at, ranks, paths, saved = training.position, training.ranks, training.paths, training.saved
    if at.epoch == 0 or at.iteration:
        return
    if ranks.any(saved is not None and ranks.main and _is_evaluated(training, saved.sha256)):
        return
    rows = validation.detect(training.model, training.validation, ranks)
    if rows is not None and saved is not None:
        result = validation.score(
            rows,
            training.validation,
            detections=paths.detections,
            evaluation=paths.evaluation,
            checkpoint=saved,
        )
        row = {
            "mode": "val",
            "epoch": at.epoch,
            "iter": training.images.iterations,
            "step": at.step,
            "lr": training.optimizer.param_groups[0]["lr"],
            **validation.numbers(result),
            "checkpoint_sha256": saved.sha256,
        }
        _record(training, journal, shown, row)
    ranks.barrier()


def _is_evaluated(training: Training, checkpoint: str) -> bool:
    """Whether the journal has the numbers of this very checkpoint."""
    return any(row.get("checkpoint_sha256") == checkpoint for row in merged_rows(training.paths))
