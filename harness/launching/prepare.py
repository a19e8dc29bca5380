"""From an experiment's cells to runs on disk: digests taken, weights found, identities known."""

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Literal, TypeVar

from harness.detection import weights
from harness.errors import UserError
from harness.files import remembered_sha256
from harness.identity import Digests, identity
from harness.launching.published import find_checkpoint
from harness.matrix import Experiment, PlannedCell
from harness.recipe import FROM_SCRATCH
from harness.run_paths import RunPaths, experiment_folder
from harness.run_spec import Origin, RunSpec, SourceSpec, SplitSpec, write_spec
from harness.settings import LOCAL, Settings, dataset_split

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRun:
    """A run that can start: its specification and its folder."""

    spec: RunSpec
    paths: RunPaths


def prepare(
    experiment: Experiment, settings: Settings, cells: Iterable[PlannedCell] | None = None
) -> list[PreparedRun]:
    """The runs of the given cells (None: all), every seed; nothing is written.

    Raises UserError listing everything that is missing: data sets, annotations, pretrained weights, published files.
    """
    faults: dict[str, None] = {}
    prepared = []
    split = cache(partial(_split, settings))  # cells have few data sets
    for planned in experiment.cells if cells is None else cells:
        first = _spec(experiment, planned, settings, split, faults)
        for seed in experiment.seeds:
            if first is not None:
                spec = replace(first, seed=seed)
                folder = experiment_folder(settings.run_root, experiment.name) / spec.folder_name
                prepared.append(PreparedRun(spec=spec, paths=RunPaths(folder)))
    if faults:
        raise UserError("\n".join(faults))
    return prepared


def write(run: PreparedRun) -> None:
    """Create the run's folder with its specification, unless it is there."""
    if not run.paths.spec.exists():
        write_spec(run.paths, run.spec)


def _spec(
    experiment: Experiment,
    planned: PlannedCell,
    settings: Settings,
    split: Callable[[str, str], SplitSpec],
    faults: dict[str, None],
) -> RunSpec | None:
    """The specification with the first seed; None where something is missing, all of which is added to `faults`."""
    recipe, trained = planned.recipe, experiment.origin != Origin.PUBLISHED
    val = _or_fault(faults, lambda: split(recipe.dataset, "val"))
    train = _or_fault(faults, lambda: split(recipe.dataset, "train")) if trained else None
    start = _or_fault(faults, lambda: _start(experiment, planned, settings.cache_root))
    if val is None or start is None or (trained and train is None):
        return None
    source, file, digest = start
    trained_on = train.digest if train else "none"
    digests = Digests(train_annotations=trained_on, val_annotations=val.digest, pretrained=digest)
    return RunSpec(
        experiment=experiment.name,
        description=experiment.description,
        name=planned.name,
        cell=planned.cell.name,
        axes=planned.cell.point,
        published=planned.cell.published,
        recipe=recipe,
        suffix=planned.suffix,
        shortening=planned.shortening,
        seed=experiment.seeds[0],
        precision=_precision(recipe.precision, gpu=planned.resources.gpus_per_node > 0, settings=settings),
        identity=identity(recipe, digests),
        train=train,
        val=val,
        weights=file,
        resources=planned.resources.model_dump(),
        origin=experiment.origin,
        source=source,
    )


def _or_fault(faults: dict[str, None], step: Callable[[], Found]) -> Found | None:
    try:
        return step()
    except UserError as error:
        faults[str(error)] = None
        return None


def _split(settings: Settings, dataset: str, part: Literal["train", "val"]) -> SplitSpec:
    split = dataset_split(settings, dataset, part)
    digest = remembered_sha256(split.annotations, settings.cache_root / "digests")
    return SplitSpec(
        images=str(split.images.resolve()),
        annotations=str(split.annotations.resolve()),
        digest=digest,
        indexes=str(settings.cache_root / "indexes"),
    )


def _start(experiment: Experiment, planned: PlannedCell, cache_root: Path) -> tuple[SourceSpec | None, str | None, str]:
    """What a run starts from: the published file that it tests, or the pretrained weights; and the digest of it."""
    typed = "EXPERIMENT" if experiment.path == Path() else shlex.quote(str(experiment.path))
    if experiment.origin == Origin.PUBLISHED:
        source = find_checkpoint(planned.cell.name, cache_root, typed)
        return source, None, source.sha256
    return None, *_weights(planned.recipe.pretrained, cache_root, typed)


def _weights(source: str, cache_root: Path, typed: str) -> tuple[str | None, str]:
    """The verified file of a source, and the digest that stands for it in an identity."""
    if source == FROM_SCRATCH:
        return None, FROM_SCRATCH
    path = weights.find(source, cache_root)
    if path is None:
        raise UserError(weights.missing_message(source, cache_root, typed))
    weights.verify_name(path, remember=cache_root / "digests")
    return str(path.resolve()), weights.SOURCES[source].sha256_prefix


def _precision(precision: str, *, gpu: bool, settings: Settings) -> str:
    """The precision as it will be executed; torch is asked only where the answer depends on this machine's devices.

    A cluster's nodes have the GPUs that are asked for, whatever the machine has that submits.
    """
    if precision == "fp32" or (gpu and settings.cluster != LOCAL):
        return precision
    import torch

    from harness.training.precision import executed_precision

    return executed_precision(precision, "cuda" if gpu and torch.cuda.is_available() else "cpu")
