"""GPU-hours: those that a run has used, by the accounting, where there is one, else by what its attempts say; and what

is expected.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.launching.progress import Work
from harness.launching.slurm import AccountedJob
from harness.launching.slurm_ask import Accounting
from harness.training.bill import allocated


@dataclass(frozen=True, slots=True)
class GpuHours:
    """What a run has used, and how many GPUs it had last."""

    used: float
    gpus: int

    def expected(self, left: float | None) -> float | None:
        """Those of the whole run, of which so many seconds are left; None where that is not known."""
        return None if left is None else self.used + allocated(self.gpus, left)


def gpu_hours(attempts: Sequence[Work], jobs: Iterable[str], accounting: Accounting, name: str) -> GpuHours:
    """Of a run with these attempts. Each start of a job counts: allocated GPUs times elapsed seconds.

    jobs: the ids of all jobs that had the run; name: what their names begin with.
    Attempts without a job in the accounting count from their first row to the last that was heard of them.
    """
    accounted = {job: starts for job in jobs if (starts := accounting.starts(job, name))}
    told = sum(allocated(start.gpus, start.seconds) for starts in accounted.values() for start in starts)
    own = sum(allocated(work.gpus, work.seconds) for work in attempts if work.job not in accounted)
    return GpuHours(told + own, _gpus(attempts, accounted))


def _gpus(attempts: Sequence[Work], accounted: dict[str, list[AccountedJob]]) -> int:
    """Of the last attempt."""
    if not attempts:
        return 0
    starts = accounted.get(attempts[-1].job or "", [])
    return max([start.gpus for start in starts], default=attempts[-1].gpus)
