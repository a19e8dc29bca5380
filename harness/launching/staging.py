"""The node's own copy of the data set, for a job whose cluster file says where: see harness/data/staging.py."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.launching.attempt import Attempt, tell
from harness.processes import node_name
from harness.run_spec import RunSpec, SplitSpec

if TYPE_CHECKING:  # torch and numpy are imported when a job starts, not when one is submitted
    from harness.data.staging import Progress
    from harness.training.distributed import Ranks
    from harness.training.watch import Watch

VARIABLE = "HARNESS_STAGING"
"""The folder, as the script of a job sets it; $VARIABLES in it are the job's."""
EVERY = 2.0
"""Seconds between two words about a copy."""


def bring_data(attempt: Attempt, ranks: "Ranks", stop: Callable[[], bool], watch: "Watch") -> None:
    """Let the attempt read its node's copy of the data set, where the cluster file names a place for one."""
    if not (home := os.environ.get(VARIABLE)):
        return
    watch.phase("staging", 0)
    silent = ranks.local_rank > 0
    say = attempt.at if ranks.main else (lambda text: None if silent else tell(f"{node_name()}: {text}\n"))
    spec, remark = local_spec(attempt.spec, home, say=say, beat=lambda: watch.phase("staging", 0), stop=stop)
    watch.phase("waiting", 0)  # a copy on another node may take long
    remarks = ranks.gather(remark and f"{node_name()}: {remark}")
    watch.phase("start", 0)
    watch.times.rename("waiting", "staging")
    attempt.spec, attempt.remark = spec, "; ".join(dict.fromkeys(text for text in remarks if text))
    if ranks.main:
        tell(f"{attempt.remark or f'data set read from {spec.val.images}'}\n")


def local_spec(
    spec: RunSpec, home: str, *, say: Callable[[str], None], beat: Callable[[], None], stop: Callable[[], bool]
) -> tuple[RunSpec, str]:
    """The specification with its data set on this node's disk, and a remark: why it is the shared one, or "".

    The identity stays: it is made of the annotations' digests, and not of paths. say: how the copy stands; beat: called
    while this process copies or waits. stop: whether to give up, and to go on with the shared disk.
    """
    from harness.data.staging import Stopped, home_of, stage

    said = 0.0

    def tick(progress: "Progress") -> None:
        nonlocal said
        beat()
        if time.monotonic() - said > EVERY:
            said = time.monotonic()
            say(str(progress))

    def local(split: SplitSpec) -> SplitSpec:
        copy = stage(split.split, split.digest, home_of(home), tick=tick, stop=stop)
        return replace(split, images=str(copy.images), annotations=str(copy.annotations))

    try:
        return replace(spec, train=spec.train and local(spec.train), val=local(spec.val)), ""
    except Stopped:
        return spec, ""
    except UserError as error:
        return spec, f"data set from the shared disk: {error}"
    except OSError as error:
        return spec, f"data set from the shared disk: {error.filename}: {error.strerror}"
