"""Which runs take the same: the same work an iteration, on the same kind of job."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

from harness.launching.cluster import Cluster, JobShape, load_cluster
from harness.launching.local_queue import local_gpus
from harness.matrix_file import Resources
from harness.recipe import Recipe
from harness.settings import LOCAL, Settings

FREE = frozenset(
    (
        *("pixel_mean", "pixel_std", "channel_order", "flip_probability", "pretrained", "optimizer", "lr", "momentum"),
        *("weight_decay", "epochs", "repeats", "lr_steps", "lr_gamma", "warmup_iters", "warmup_ratio", "loss_scale"),
        *("box_target_stds", "rpn_min_pos_iou", "test_mask_threshold", "min_image_size"),
    )
)
"""Recipe fields that change neither the time of an iteration nor its memory."""
COSTLY = tuple(entry.name for entry in fields(Recipe) if entry.name not in FREE)

NVIDIA = Path("/dev/nvidiactl")
"""There on a machine with a GPU that works."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What decides how long an iteration takes; runs of equal cost tell of each other."""

    work: tuple[object, ...]  # the COSTLY fields of the executed recipe, and the executed precision
    shape: JobShape  # without what only says when a job may run
    workers: int


def cost_of(recipe: Recipe, precision: str, shape: JobShape, workers: int) -> Cost:
    """The cost of an executed recipe on a kind of job."""
    work = (*(getattr(recipe, name) for name in COSTLY), precision)
    return Cost(work=work, shape=replace(shape, minutes=0, qos=None, account=None), workers=workers)


def find_cluster(settings: Settings) -> Cluster | None:
    """The cluster of the settings; None for this machine.

    Raises UserError where it is not known or its file has mistakes.
    """
    return None if settings.cluster == LOCAL else load_cluster(settings.cluster)


def shape_of(cell: str, resources: Resources, cluster: Cluster | None, settings: Settings) -> JobShape:
    """What the job of a cell asks for: of the cluster, or of this machine."""
    if cluster is not None:
        return cluster.shape_of(cell, resources)
    gpus = local_gpus(resources.gpus_per_node, settings.local_jobs) if NVIDIA.exists() else 0
    return JobShape(nodes=1, gpus_per_node=gpus, cpus_per_gpu=resources.cpus_per_gpu, minutes=resources.minutes)


def gpus(shape: JobShape) -> int:
    """That the job has."""
    return shape.nodes * shape.gpus_per_node


def processes(shape: JobShape) -> int:
    """How many work on the run."""
    return shape.nodes * shape.tasks_per_node
