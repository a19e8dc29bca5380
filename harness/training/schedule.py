"""The learning rate of every iteration."""

from bisect import bisect_right
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Step decay with linear warm-up (mmdetection 2.x: policy "step", warm-up "linear").

    lr_steps: epochs, counted from 0, at whose start the rate falls by lr_gamma.
    """

    lr: float
    lr_steps: tuple[int, ...]
    lr_gamma: float
    warmup_iters: int
    warmup_ratio: float

    def rate(self, *, epoch: int, step: int) -> float:
        """The rate of iteration `step` (counted from 0 over the whole training) in `epoch` (counted from 0).

        In warm-up: regular * (1 - (1 - step / warmup_iters) * (1 - warmup_ratio)); it ends at step = warmup_iters.
        """
        regular = self.lr * self.lr_gamma ** bisect_right(self.lr_steps, epoch)
        if step >= self.warmup_iters:
            return regular
        return regular * (1 - (1 - step / self.warmup_iters) * (1 - self.warmup_ratio))
