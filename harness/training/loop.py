"""The training of one run: epochs of iterations, checkpoints, evaluation; stoppable and resumable at any iteration."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.data.batches import plan_epoch, training_batches
from harness.data.coco import CocoIndex, CocoSplit, load_index, train_filter
from harness.detection.mask_rcnn import MaskRCNN
from harness.errors import UserError
from harness.evaluation.speed import peak_memory_mb
from harness.recipe import Recipe, to_dict
from harness.runs import RunPaths, RunSpec, merge_log, merged_rows
from harness.training import checkpoint, validation
from harness.training.build import build_augmentation, build_model, build_optimizer, build_schedule, require_weights
from harness.training.checkpoint import Saved
from harness.training.distributed import Ranks, replicate
from harness.training.environment import environment
from harness.training.journal import Journal
from harness.training.meter import Meter
from harness.training.precision import LossScaler
from harness.training.progress import TrainingProgress
from harness.training.step import iterate

LOG_INTERVAL = 50
CHECKPOINT_SECONDS = 600.0
SAVE, STOP = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a training has come."""

    epoch: int = 0  # epochs completed
    iteration: int = 0  # iterations into the next one
    step: int = 0  # iterations in all


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended."""

    finished: bool
    position: Position
    checkpoint: Saved | None
    seconds: float  # of training iterations in this attempt
    iterations: int  # in this attempt
    memory_mb: float


class Training:
    """The parts of one training, and where it stands."""

    def __init__(self, paths: RunPaths, spec: RunSpec, ranks: Ranks, *, attempt: int) -> None:
        self.paths, self.spec, self.ranks, self.attempt = paths, spec, ranks, attempt
        self.recipe: Recipe = spec.executed
        self.workers = int(spec.resources["workers"])
        self.index, self.kept = _training_images(spec)
        self.validation = validation.Validation(
            index=load_index(_split(spec.val.images, spec.val.annotations)),
            images=Path(spec.val.images),
            annotations=Path(spec.val.annotations),
            recipe=self.recipe,
            precision=spec.precision,
            first=spec.shortening.eval_images,
            workers=self.workers,
        )
        self.micro_batches = self.recipe.batch // self.recipe.micro_batch
        self.model: MaskRCNN = _model(spec, self.recipe).to(ranks.device)
        self.optimizer = build_optimizer(self.recipe, self.model)
        self.schedule = build_schedule(self.recipe)
        self.scaler = LossScaler(spec.precision, self.recipe.loss_scale, ranks.device)
        self.meter = Meter()
        self.position = Position()
        self.saved: Saved | None = None
        self.iterations_per_epoch = self._iterations_per_epoch()
        self.log_interval = max(1, min(LOG_INTERVAL, self.iterations_per_epoch // 5))
        self._resume()
        self.replica: nn.Module = replicate(self.model, ranks)

    @property
    def total(self) -> int:
        """Iterations of the whole training."""
        return self.recipe.epochs * self.iterations_per_epoch

    def save(self) -> None:
        """Write a checkpoint of the present position (rank 0; the others wait)."""
        if self.ranks.main:
            content = {
                "meta": self._meta(),
                "state_dict": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "meter": self.meter.state_dict(),
                "overflows": self.scaler.overflows,
            }
            at = self.position
            self.saved = checkpoint.save(
                self.paths.checkpoints, content, epoch=at.epoch, iteration=at.iteration, step=at.step
            )
        self.ranks.barrier()

    def _meta(self) -> dict[str, Any]:
        return {
            "epoch": self.position.epoch,
            "iteration": self.position.iteration,
            "iter": self.position.step,
            "CLASSES": list(self.index.category_names),
            "cell": self.spec.name,
            "seed": self.spec.seed,
            "identity": self.spec.identity,
            "key": self.spec.key,
            "precision": self.spec.precision,
            "recipe": to_dict(self.recipe),
        }

    def _resume(self) -> None:
        self.saved = checkpoint.newest(self.paths.checkpoints)
        if self.saved is None:
            return
        content = checkpoint.load(self.saved.path)
        meta = content["meta"]
        if meta["key"] != self.spec.key:
            raise UserError(f"{self.saved.path}: belongs to another run ({meta['cell']}, key {meta['key']})")
        self.model.load_state_dict(content["state_dict"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        self.scaler.overflows.copy_(content["overflows"])
        self.meter.load_state_dict(content["meter"], self.ranks.device)
        self.position = Position(epoch=meta["epoch"], iteration=meta["iteration"], step=meta["iter"])

    def _iterations_per_epoch(self) -> int:
        planned = len(
            plan_epoch(
                self.index.landscape()[self.kept],
                seed=0,
                epoch=0,
                micro_batch=self.recipe.micro_batch,
                total_batch=self.recipe.batch,
                repeats=self.recipe.repeats,
            )
        )
        return min(planned, self.spec.shortening.iterations_per_epoch or planned)


def _split(images: str, annotations: str) -> CocoSplit:
    return CocoSplit(images=Path(images), annotations=Path(annotations))


def _training_images(spec: RunSpec) -> tuple[CocoIndex, Any]:
    index = load_index(_split(spec.train.images, spec.train.annotations))
    found = len(index.category_ids)
    if found != spec.recipe.num_classes:
        raise UserError(
            f"{spec.train.annotations}: has {found} categories, the recipe says num_classes {spec.recipe.num_classes}; "
            f"set num_classes: {found} in the matrix's recipe block"
        )
    return index, train_filter(index, spec.executed.min_image_size)


def _model(spec: RunSpec, recipe: Recipe) -> MaskRCNN:
    file = Path(spec.weights) if spec.weights else None
    require_weights(recipe, file)
    return build_model(recipe, weights_file=file, seed=spec.seed)


def train(
    training: Training,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_row: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Train from the present position to the end, or until `stop` says so on any rank (a checkpoint is then written).

    on_row gets a line about the progress at every log row.
    """
    paths, ranks = training.paths, training.ranks
    before = training.position.step
    name = f"{training.spec.name} seed {training.spec.seed}"
    shown = TrainingProgress(name, training.total, before, shown=ranks.main, on_row=on_row)
    seconds, stopped = 0.0, False
    with _journal(training) as journal, shown:
        _validate_if_due(training, journal, shown)
        while not stopped and training.position.epoch < training.recipe.epochs:
            seconds += _epoch(training, journal, shown, stop)
            training.save()
            stopped = ranks.any(stop())
            if not stopped:
                _validate_if_due(training, journal, shown)
    if ranks.main:
        merge_log(paths)
    ranks.barrier()
    return Outcome(
        finished=not stopped,
        position=training.position,
        checkpoint=training.saved,
        seconds=seconds,
        iterations=training.position.step - before,
        memory_mb=ranks.maximum(peak_memory_mb(ranks.device)),
    )


def _journal(training: Training) -> Journal:
    """This attempt's segment, with its first row written; other ranks than 0 write to nowhere."""
    if not training.ranks.main:
        return Journal(Path("/dev/null"))
    journal = Journal(training.paths.segment(training.attempt))
    spec, ranks = training.spec, training.ranks
    journal.write(
        {
            "mode": "attempt",
            "attempt": training.attempt,
            "step": training.position.step,
            "env_info": environment(ranks.device),
            "seed": spec.seed,
            "exp_name": spec.name,
            "world": ranks.world,
            "device": ranks.device.type,
            "precision": spec.precision,
            "config": json.dumps(to_dict(training.recipe)),
        }
    )
    return journal


def _epoch(training: Training, journal: Journal, shown: TrainingProgress, stop: Callable[[], bool]) -> float:
    """Train to the end of the present epoch, or until stopped; the seconds spent in iterations."""
    recipe, ranks, at = training.recipe, training.ranks, training.position
    batches = training_batches(
        training.index,
        Path(training.spec.train.images),
        training.kept,
        build_augmentation(recipe),
        seed=training.spec.seed,
        epoch=at.epoch,
        micro_batch=recipe.micro_batch,
        total_batch=recipe.batch,
        repeats=recipe.repeats,
        start_iteration=at.iteration,
        iterations=training.iterations_per_epoch,
        rank=ranks.rank,
        world=ranks.world,
        workers=training.workers,
        pin_memory=ranks.device.type == "cuda",
    )
    training.model.train()
    began = saved = last = time.monotonic()
    for micro_batches in batches:
        loaded = time.monotonic()
        at = training.position
        _set_rate(training, training.schedule.rate(epoch=at.epoch, step=at.step))
        losses = iterate(
            training.replica,
            micro_batches,
            training.optimizer,
            training.scaler,
            precision=training.spec.precision,
            micro_batches=training.micro_batches,
            ranks=ranks,
        )
        now = time.monotonic()
        training.meter.add(losses, seconds=now - last, data_seconds=loaded - last)
        last = now
        _advance(training, journal, shown)
        if training.position.iteration == 0:
            break
        wish = STOP if stop() else SAVE if now - saved > CHECKPOINT_SECONDS else 0
        wish = round(ranks.maximum(wish))
        if wish == STOP:
            break
        if wish == SAVE:
            training.save()
            saved = time.monotonic()
    return time.monotonic() - began


def _advance(training: Training, journal: Journal, shown: TrainingProgress) -> None:
    """Count the iteration, and write a row where one is due."""
    at = training.position
    iteration, step = at.iteration + 1, at.step + 1
    ended = iteration == training.iterations_per_epoch
    if iteration % training.log_interval == 0 or ended:
        averages = training.meter.read(training.ranks)
        memory = training.ranks.maximum(peak_memory_mb(training.ranks.device))
        row = {
            "mode": "train",
            "epoch": at.epoch + 1,
            "iter": iteration,
            "step": step,
            "lr": training.optimizer.param_groups[0]["lr"],
            "memory": round(memory),
            **averages,
        }
        journal.write(row)
        shown.row(row, training.recipe.epochs)
    shown.advance()
    training.position = (
        Position(epoch=at.epoch + 1, step=step) if ended else replace(at, iteration=iteration, step=step)
    )


def _set_rate(training: Training, rate: float) -> None:
    for group in training.optimizer.param_groups:
        group["lr"] = rate


def _validate_if_due(training: Training, journal: Journal, shown: TrainingProgress) -> None:
    """Evaluate the checkpoint of a completed epoch, unless an earlier attempt has done so."""
    at, ranks, paths = training.position, training.ranks, training.paths
    if at.epoch == 0 or at.iteration:
        return
    done = any(row["mode"] == "val" and row["step"] == at.step for row in merged_rows(paths))
    if ranks.any(done):
        return
    rows = validation.detect(training.model, training.validation, ranks)
    if rows is not None:
        assert training.saved is not None
        result = validation.score(
            rows,
            training.validation,
            detections=paths.detections,
            evaluation=paths.evaluation,
            checkpoint=training.saved,
        )
        row = {
            "mode": "val",
            "epoch": at.epoch,
            "iter": training.iterations_per_epoch,
            "step": at.step,
            "lr": training.optimizer.param_groups[0]["lr"],
            **validation.numbers(result),
            "checkpoint_sha256": training.saved.sha256,
        }
        journal.write(row)
        shown.row(row, training.recipe.epochs)
    ranks.barrier()


def peak_memory_kind(device: torch.device) -> str:
    """What peak_memory_mb measures there."""
    return "cuda" if device.type == "cuda" else "rss"
