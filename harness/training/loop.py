"""The training of one run: epochs of iterations, checkpoints, evaluation; stoppable and resumable at any iteration."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from harness.evaluation.speed import peak_memory_mb
from harness.files import find_json
from harness.imported import minus_published
from harness.run_log import merge_log, row_key, segments
from harness.training import validation
from harness.training.agreement import Agreement
from harness.training.environment import own_attempt_row
from harness.training.journal import Journal, repair
from harness.training.progress import TrainingProgress
from harness.training.scoring import Scoring
from harness.training.session import Training
from harness.training.step import iterate
from harness.training.watch import Watch

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
    watch: Watch | None = None,
) -> bool:
    """Train from the present position to the end, or until `stop` says so on any rank (a checkpoint is then durable).

    on_row gets a line about the progress at every log row; watch is told what this rank does. Returns whether the
    training has come to its end.
    Raises UserError where the loss is no longer finite, an image cannot be read, or the disk takes no more.
    """
    ranks = training.ranks
    name = f"{training.spec.name} seed {training.spec.seed}"
    watch = watch or Watch()
    with (
        _journal(training) as journal,
        TrainingProgress(name, training.total, training.position.step, shown=ranks.main, on_row=on_row) as shown,
        training.writing,
    ):
        watch.times.gpus = ranks.gpus
        finished = _Loop(training, journal, shown, stop, watch).run()
    if ranks.main:
        merge_log(training.paths)
    ranks.barrier()
    return finished


@contextmanager
def _journal(training: Training) -> Iterator[Journal | None]:
    """This attempt's segment of the journal, with its first row written; None on ranks that record nothing."""
    if not training.ranks.main:
        yield None
        return
    repair(training.paths)
    found = segments(training.paths)
    known = {key for rows in found.values() for row in rows if (key := row_key(row))}
    with Journal(training.paths.segment(training.attempt), known) as journal:
        own = training.paths.attempt(training.attempt).name
        before = {name: len(rows) for name, rows in found.items() if name != own}
        journal.write(_first_row(training, known) | {"journal": before})
        journal.sync()
        yield journal


def _first_row(training: Training, known: set[tuple[str, int]]) -> dict[str, Any]:
    """What an attempt says of itself: where it goes on, and which iterations it repeats that are journaled already."""
    at = training.position
    if training.logged and ("train", training.logged) not in known:
        sys.stderr.write(f"{training.paths.folder}: the log row of iteration {training.logged} is gone\n")
    last = max((step for mode, step in known if mode == "train"), default=0)
    return own_attempt_row(
        training.paths,
        training.spec,
        training.ranks,
        attempt=training.attempt,
        step=at.step,
        steps=training.total,
        replayed=[at.step + 1, last] if last > at.step else None,
        world_before=training.resumed["world"] if training.resumed else None,
    )


class _Loop:
    """The way from the present position to the end, with what is told on it."""

    def __init__(
        self,
        training: Training,
        journal: Journal | None,
        shown: TrainingProgress,
        stop: Callable[[], bool],
        watch: Watch,
    ) -> None:
        self.training, self.ranks = training, training.ranks
        self.journal, self.shown, self.stop, self.watch = journal, shown, stop, watch
        paths, split = training.paths, training.validation
        self.scoring: Scoring | None = None
        if journal is not None:
            self.scoring = Scoring(paths, split, attempt=training.attempt, record=self._record_val)

    def run(self) -> bool:
        """Whether the end was reached, and not a stop."""
        with self.scoring or nullcontext():
            if self.scoring is not None:
                self.scoring.take_up(self.training.position.step, self._is_scored)
            going = self._evaluate_if_due()
            while going and self.training.position.epoch < self.training.recipe.epochs:
                self._epoch()
                self._save()
                self._settle()
                going = not self.ranks.any(self.stop()) and self._evaluate_if_due()
            self._phase("scoring" if self.scoring else "waiting")
            if going and self.scoring is not None:
                self.scoring.settle()
        self._keep_times()
        return going

    def _epoch(self) -> None:
        """Train to the end of the present epoch, or until stopped."""
        training, at = self.training, self.training.position
        training.model.train()
        agreement = Agreement(self.ranks)
        saved = last = time.monotonic()
        self._phase("data")
        for micro_batches in training.images.epoch(at.epoch, self.ranks, start=at.iteration):
            loaded = time.monotonic()
            self._phase("step")
            training.set_rate()
            losses = iterate(
                training.replica,
                micro_batches,
                training.optimizer,
                training.scaler,
                precision=training.spec.precision,
                micro_batches=training.recipe.batch // training.recipe.micro_batch,
                ranks=self.ranks,
            )
            training.advance()
            now = time.monotonic()
            training.meter.add(losses, step=training.position.step, seconds=now - last, data_seconds=loaded - last)
            last = now
            self.shown.advance()
            self._log_if_due()
            if training.position.iteration == 0:
                return
            wish = agreement.on(STOP if self.stop() else SAVE if now - saved > CHECKPOINT_SECONDS else 0)
            if wish == STOP:
                return
            if training.writing.done:
                training.settle()  # a failure to write comes to light here
            if self.scoring is not None and self.scoring.done:
                self.scoring.settle()
            if wish == SAVE:
                self._save()
                saved = last = time.monotonic()
            self._phase("data")

    def _phase(self, name: Any) -> None:
        self.watch.phase(name, self.training.position.step)

    def _log_if_due(self) -> None:
        training, at, each = self.training, self.training.position, self.training.images.iterations
        if at.iteration and at.iteration % max(1, min(LOG_INTERVAL, each // LOG_ROWS)):
            return
        self._phase("log")
        averages = training.read_meter()
        self.watch.report(self.ranks)
        row = {
            "mode": "train",
            "epoch": at.epoch + bool(at.iteration),
            "iter": at.iteration or each,
            "step": at.step,
            "lr": training.optimizer.param_groups[0]["lr"],
            "memory": round(self.ranks.maximum(peak_memory_mb(self.ranks.device))),
            **averages,
        }
        self._record(row)

    def _record(self, row: dict[str, Any]) -> None:
        if self.journal is not None:
            self.journal.write(row)
            self.shown.row(row, self.training.recipe.epochs)

    def _record_val(self, head: dict[str, Any], numbers: dict[str, Any]) -> None:
        """On the disk when this returns."""
        assert self.journal is not None
        training = self.training
        minus = minus_published(training.paths.folder.parent.parent, training.spec, head["epoch"], numbers)
        self._record({**head, **numbers, **minus})
        self.journal.sync()

    def _save(self) -> None:
        self._phase("checkpoint")
        self.watch.times.checkpoints += 1
        self.training.save(journaled=self.journal.sync if self.journal else lambda: None)
        if self.journal is not None:
            self.watch.times.write(self.training.paths.attempt(self.training.attempt))

    def _settle(self) -> None:
        """Go on when the checkpoint is durable."""
        self._phase("checkpoint" if self.ranks.main else "waiting")
        self.training.settle()
        self.ranks.barrier()

    def _evaluate_if_due(self) -> bool:
        """Evaluate the checkpoint of a completed epoch unless an earlier attempt has; False where stopped meanwhile."""
        training, at = self.training, self.training.position
        if at.epoch == 0 or at.iteration or self.ranks.any(self.ranks.main and self._is_evaluated()):
            return True
        split = training.validation
        progress = validation.between_images(split, self.ranks, self.stop, self.watch, step=at.step)
        try:
            found = validation.detect(training.model, split, self.ranks, progress)
        except validation.Stopped:
            return False
        self._phase("scoring" if self.ranks.main else "waiting")
        if self.scoring is not None and found is not None:
            self.scoring.begin(found, self._head())
            self._phase("waiting")  # ends what the training waits for
            self.watch.times.evaluations += 1
            self.watch.times.images += len(split.image_ids)
            self.watch.times.write(self.training.paths.attempt(self.training.attempt))
        self.ranks.barrier()
        return True

    def _keep_times(self) -> None:
        """Where the time of this attempt has gone, in its folder and in the journal."""
        self._phase("waiting")  # ends the phase before
        if self.journal is None:
            return
        times = self.watch.times
        times.write(self.training.paths.attempt(self.training.attempt))
        seconds = {name: round(spent, 3) for name, spent in times.seconds.items()}
        row = {"mode": "times", "attempt": self.training.attempt, "step": self.training.position.step}
        self.journal.write({**row, "seconds": seconds})

    def _head(self) -> dict[str, Any]:
        """Of the val row of the newest checkpoint."""
        training, at = self.training, self.training.position
        assert training.saved is not None
        return {
            "mode": "val",
            "epoch": at.epoch,
            "iter": training.images.iterations,
            "step": at.step,
            "lr": training.optimizer.param_groups[0]["lr"],
            "checkpoint_sha256": training.saved.sha256,
        }

    def _is_evaluated(self) -> bool:
        """Whether this very checkpoint was tested: its detections are being scored, or that is done."""
        saved = self.training.saved
        if saved is None or self.scoring is None:
            return False
        return self.scoring.is_of(saved.sha256) or self._is_scored(self.training.position.step, saved.sha256)

    def _is_scored(self, step: int, checkpoint: str) -> bool:
        """Whether the evaluation on the disk is of this checkpoint, by its sha256, and the journal has a row of it."""
        if self.journal is None or ("val", step) not in self.journal.known:
            return False
        evaluation = find_json(self.training.paths.evaluation)
        return evaluation is not None and bool(evaluation["checkpoint_sha256"] == checkpoint)
