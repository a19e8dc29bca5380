"""A training: its parts, where it stands, and how it is saved and taken up again."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from harness.detection.mask_rcnn import MaskRCNN
from harness.errors import UserError
from harness.recipe import to_dict
from harness.runs import RunPaths, RunSpec
from harness.training import checkpoint
from harness.training.build import build_model, build_optimizer, build_schedule, require_weights
from harness.training.checkpoint import Saved
from harness.training.distributed import Ranks, replicate, share_buffers
from harness.training.images import training_images
from harness.training.meter import Meter
from harness.training.precision import LossScaler, executed_precision
from harness.training.validation import run_validation


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a training has come."""

    epoch: int = 0  # epochs completed
    iteration: int = 0  # iterations into the next one
    step: int = 0  # iterations in all


class Training:
    """The parts of one training at the position of its newest checkpoint, or at the start.

    Raises UserError where data, weights or checkpoint are missing, broken or of another run, or the device cannot
    execute the run's precision.
    """

    def __init__(self, paths: RunPaths, spec: RunSpec, ranks: Ranks, *, attempt: int) -> None:
        self.paths, self.spec, self.ranks, self.attempt = paths, spec, ranks, attempt
        self.recipe = spec.executed
        self.images = training_images(spec)
        self.validation = run_validation(spec)
        self.model: MaskRCNN = _model(spec, ranks)
        self.optimizer = build_optimizer(self.recipe, self.model)
        self.schedule = build_schedule(self.recipe)
        self.scaler = LossScaler(spec.precision, self.recipe.loss_scale, ranks.device)
        self.meter = Meter()
        self.position = Position()
        self.saved: Saved | None = None  # on rank 0: the newest checkpoint
        self._resume()
        self.replica: nn.Module = replicate(self.model, ranks)

    @property
    def total(self) -> int:
        """Iterations of the whole training."""
        return self.recipe.epochs * self.images.iterations

    def set_rate(self) -> None:
        """Give the optimiser the learning rate of the next iteration."""
        rate = self.schedule.rate(epoch=self.position.epoch, step=self.position.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def advance(self) -> None:
        """Count an iteration."""
        at = self.position
        if at.iteration + 1 == self.images.iterations:
            self.position = Position(epoch=at.epoch + 1, step=at.step + 1)
        else:
            self.position = replace(at, iteration=at.iteration + 1, step=at.step + 1)

    def save(self) -> None:
        """Write a checkpoint of the present position (rank 0; the others wait).

        Raises UserError instead where the loss is no longer finite.
        """
        share_buffers(self.model, self.ranks)
        averages = self.meter.state_dict(self.ranks)
        self.require_finite(averages["sums"])
        if self.ranks.main:
            content = {
                "meta": self._meta(),
                "state_dict": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "overflows": self.scaler.overflows,
                "meter": averages,
            }
            at = self.position
            self.saved = checkpoint.save(
                self.paths.checkpoints, content, epoch=at.epoch, iteration=at.iteration, step=at.step
            )
        self.ranks.barrier()

    def require_finite(self, values: dict[str, float]) -> None:
        """Raise UserError where the loss in `values` is NaN or infinite: nothing after it can be trusted."""
        if math.isfinite(values.get("loss", 0.0)):
            return
        at = self.position
        where = f"epoch {at.epoch + bool(at.iteration)}, iteration {at.iteration or self.images.iterations}"
        raise UserError(
            f"{where}: the loss is not finite, the training has diverged; lower lr or lengthen warmup_iters "
            f"(rate now {self.optimizer.param_groups[0]['lr']:.3g})"
        )

    def _meta(self) -> dict[str, Any]:
        return {
            "epoch": self.position.epoch,
            "iteration": self.position.iteration,
            "iter": self.position.step,
            "CLASSES": list(self.images.index.category_names),
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
        self.meter.load_state_dict(content["meter"], self.ranks)
        self.position = Position(epoch=meta["epoch"], iteration=meta["iteration"], step=meta["iter"])


def _model(spec: RunSpec, ranks: Ranks) -> MaskRCNN:
    if executed_precision(spec.precision, ranks.device.type) != spec.precision:
        raise UserError(f"the run was prepared for {spec.precision} on a GPU, but there is none here; start it anew")
    file = Path(spec.weights) if spec.weights else None
    require_weights(spec.recipe, file)
    return build_model(spec.executed, weights_file=file, seed=spec.seed).to(ranks.device)
