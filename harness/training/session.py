"""A training: its parts, where it stands, and how it is saved and taken up again."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from harness.data.coco import unlike_categories
from harness.detection.mask_rcnn import MaskRCNN
from harness.errors import UserError
from harness.recipe import to_dict
from harness.run_paths import RunPaths, require_own
from harness.run_spec import RunSpec
from harness.training import checkpoint
from harness.training.background import Background
from harness.training.build import build_model, build_optimizer, build_schedule, require_weights
from harness.training.checkpoint import Saved, Snapshot
from harness.training.distributed import Ranks, replicate, share_buffers
from harness.training.images import training_images
from harness.training.meter import Meter
from harness.training.precision import LossScaler, require_precision
from harness.training.validation import run_validation


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a training has come."""

    epoch: int = 0  # epochs completed
    iteration: int = 0  # iterations into the next one
    step: int = 0  # iterations in all


class Training:
    """The parts of one training at the position of its newest checkpoint, or at the start.

    A checkpoint holds no state of random generators: none is drawn from. The order of images and every random number
    follow (seed, epoch, position), the rate follows the position, and the initial weights are in the checkpoint.
    Raises UserError where data, weights or checkpoint are missing, broken or of another run, or the device cannot
    execute the run's precision.
    """

    def __init__(self, paths: RunPaths, spec: RunSpec, ranks: Ranks, *, attempt: int) -> None:
        self.paths, self.spec, self.ranks, self.attempt = paths, spec, ranks, attempt
        self.recipe = spec.executed
        self.images = training_images(spec)
        self.validation = run_validation(spec)
        if unlike := unlike_categories(self.validation.index.categories, self.images.index.categories):
            raise UserError(
                f"{self.validation.annotations}: is not of the categories trained on: {unlike[0]}; expected the same "
                "ids and names in both annotation files; `harness data check` lists all faults"
            )
        self.model: MaskRCNN = _model(spec, ranks)
        self.optimizer = build_optimizer(self.recipe, self.model)
        self.schedule = build_schedule(self.recipe)
        self.scaler = LossScaler(spec.precision, self.recipe.loss_scale, ranks.device)
        self.meter = Meter()
        self.position = Position()
        self.logged = 0  # the iteration of the last train row
        self.saved: Saved | None = None  # the newest durable checkpoint; kept up on rank 0
        self.resumed: dict[str, Any] | None = None  # the `meta` of the checkpoint that this attempt went on from
        self.writing: Background[Saved] = Background("checkpoint")
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

    def read_meter(self) -> dict[str, float]:
        """The averages of the log interval that ends here; times are this rank's.

        Raises UserError where the loss is no longer finite.
        """
        averages = self.meter.read(self.ranks)
        self._require_finite(averages)
        self.logged = self.position.step
        return averages

    def save(self, *, journaled: Callable[[], None] = lambda: None) -> None:
        """Begin to write a checkpoint of the present position (on rank 0): this waits for a copy only.

        journaled: called before it is written, by the thread that writes, to bring to the disk the rows that a
        training resumed from it will not repeat.
        Raises UserError instead where the loss is no longer finite, or the checkpoint before could not be written.
        """
        share_buffers(self.model, self.ranks)
        averages = self.meter.state_dict(self.ranks)
        self._require_finite(averages["sums"])
        if not self.ranks.main:
            return
        self.settle()
        content = {
            "meta": self._meta(),
            "state_dict": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "overflows": self.scaler.overflows,
            "meter": averages,
        }
        copy, at = Snapshot(content, self.ranks.device), self.position
        self.writing.start(lambda: self._write(copy, at, journaled))

    def settle(self) -> None:
        """Return when the checkpoint that is being written is durable.

        Raises UserError where it could not be written.
        """
        self.saved = self.writing.wait() or self.saved

    def require_own(self) -> None:
        """See run_paths.require_own."""
        require_own(self.paths, self.attempt)

    def _write(self, copy: Snapshot, at: Position, journaled: Callable[[], None]) -> Saved:
        self.require_own()
        content = copy.arrived()
        if not all(bool(value.isfinite().all()) for value in content["state_dict"].values()):
            raise self._diverged(at.step, "weights are no longer finite")
        journaled()
        place = {"epoch": at.epoch, "iteration": at.iteration, "step": at.step}
        return checkpoint.save(self.paths.checkpoints, content, **place, before_naming=self.require_own)

    def _require_finite(self, values: dict[str, float]) -> None:
        """Raise UserError where the loss in `values`, the same on all ranks, is NaN or infinite."""
        if math.isfinite(values.get("loss", 0.0)):
            return
        mine = int(self.meter.first_bad) if self.meter.first_bad is not None else -1
        seen = self.ranks.gather((mine, self._images(mine)))
        step = min(step for step, _ in seen if step > 0)
        ids = [number for at, images in seen if at == step for number in images]
        raise self._diverged(step, f"the loss is not finite for images {_listed(ids)}")

    def _images(self, step: int) -> list[int]:
        epoch, iteration = divmod(step - 1, self.images.iterations)
        return self.images.ids(epoch, iteration, self.ranks) if step > 0 else []

    def _diverged(self, step: int, fault: str) -> UserError:
        epoch, iteration = divmod(step - 1, self.images.iterations)
        rate = self.schedule.rate(epoch=epoch, step=step - 1)
        return UserError(
            f"epoch {epoch + 1}, iteration {iteration + 1}: {fault}; the training has diverged: lower lr or lengthen "
            f"warmup_iters (rate {rate:.3g}), or look at the images"
        )

    def _meta(self) -> dict[str, Any]:
        return {
            "epoch": self.position.epoch,
            "iteration": self.position.iteration,
            "iter": self.position.step,
            "journaled": self.logged,  # the last train row before; the averages in `meter` begin after it
            "world": self.ranks.world,
            "CLASSES": list(self.images.index.category_names),
            "cell": self.spec.name,
            "seed": self.spec.seed,
            "identity": self.spec.identity,
            "key": self.spec.key,
            "precision": self.spec.precision,
            "recipe": to_dict(self.recipe),
            "eval_images": self.spec.shortening.eval_images,
        }

    def _resume(self) -> None:
        found = checkpoint.newest(self.paths.checkpoints) if self.ranks.main else None
        self.saved = self.ranks.gather(found)[0]  # rank 0's choice: all go on from the same one
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
        self.logged = meta["journaled"]
        self.resumed = meta


def _model(spec: RunSpec, ranks: Ranks) -> MaskRCNN:
    require_precision(spec.precision, ranks.device.type)
    file = Path(spec.weights) if spec.weights else None
    require_weights(spec.recipe, file)
    return build_model(spec.executed, weights_file=file, seed=spec.seed).to(ranks.device)


def _listed(ids: list[int]) -> str:
    more = f" and {len(ids) - 16} more" if len(ids) > 16 else ""
    return ", ".join(map(str, ids[:16])) + more
