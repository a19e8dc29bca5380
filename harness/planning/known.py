"""What runs of the same cost have measured: finished ones of the experiment, its pilots, those of other experiments.

Where there is none, runs of the same work on another number of GPUs tell.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

from harness.errors import UserError
from harness.launching.cluster import Cluster
from harness.launching.prepare import PreparedRun
from harness.matrix_file import Resources
from harness.planning.cost import Cost, cost_of, gpus, processes, shape_of
from harness.planning.measured import Measured, measure
from harness.planning.scaling import Efficiency, efficiency, scaled
from harness.run_paths import RunPaths, experiment_runs
from harness.run_spec import Origin, RunSpec, read_spec
from harness.settings import Settings

Runs = dict[Cost, list[tuple[RunPaths, RunSpec]]]
PILOT = "-pilot"
"""What the name of an experiment of pilots ends in."""


class Known:
    """Looks for a finished run of the same cost, the newest of the nearest place first."""

    def __init__(
        self, experiment: str, settings: Settings, cluster: Cluster | None, finished: Iterable[PreparedRun]
    ) -> None:
        self.experiment, self.settings, self.cluster = experiment, settings, cluster
        self._own = self._by_cost((run.paths, run.spec) for run in finished)
        self._found: dict[Cost, tuple[Measured | None, str]] = {}

    def find(self, cost: Cost) -> tuple[Measured | None, str]:
        """What a run of this cost measured, and which one; (None, "") where there is none."""
        if cost not in self._found:
            exact = self._exact(cost)
            self._found[cost] = exact if exact[0] else self._scaled(cost)
        return self._found[cost]

    def _exact(self, cost: Cost) -> tuple[Measured | None, str]:
        for place in self._places():
            for paths, spec in place.get(cost, ()):
                found = measure(paths)
                if found is not None and found.processes == processes(cost.shape):
                    return found, f"{_kind(spec)}: {_named(spec)}, on {found.hardware}"
        return None, ""

    def _scaled(self, cost: Cost) -> tuple[Measured | None, str]:
        """By a run of the same work on another number of GPUs: of those measured, the nearest number."""
        wanted, (keeps, alike) = gpus(cost.shape), self._by_work
        found = alike.get(cost.work, ())
        if not wanted or not found:
            return None, ""
        run, spec = min(found, key=lambda pair: abs(pair[0].processes - wanted))
        share = f"{keeps.of(run.processes, wanted):.0%} of the ideal, {'measured' if keeps.measured else 'assumed'}"
        source = f"{_kind(spec)}: {_named(spec)}, on {run.hardware}, scaled to {wanted} GPUs ({share})"
        return replace(run, rates=scaled(run.rates, run.processes, wanted, keeps)), source

    @cached_property
    def _by_work(self) -> tuple[Efficiency, dict[tuple[object, ...], list[tuple[Measured, RunSpec]]]]:
        """What is kept of the ideal speed, and the newest run of each work on each number of GPUs."""
        newest: dict[tuple[tuple[object, ...], str], dict[int, tuple[Measured, RunSpec]]] = {}  # also by model of GPU
        for place in self._places():
            for cost, runs in place.items():
                for paths, spec in runs:
                    if gpus(cost.shape) and (found := measure(paths)) and found.device == "cuda":
                        newest.setdefault((cost.work, found.hardware.partition(" x ")[2]), {}).setdefault(
                            found.processes, (found, spec)
                        )
        pairs = [
            (few, own[few][0].rates.iteration_s, many, own[many][0].rates.iteration_s)
            for own in newest.values()
            for few, many in combinations(sorted(own), 2)
        ]
        alike: dict[tuple[object, ...], list[tuple[Measured, RunSpec]]] = {}
        for (work, _), own in newest.items():
            alike.setdefault(work, []).extend(own.values())
        return efficiency(pairs), alike

    def _places(self) -> Iterator[Runs]:
        """Each read when those before it have told nothing."""
        yield self._own
        yield self._pilots
        yield self._elsewhere

    @cached_property
    def _pilots(self) -> Runs:
        return self._by_cost(_finished(experiment_runs(self.settings.run_root, f"{self.experiment}{PILOT}")))

    @cached_property
    def _elsewhere(self) -> Runs:
        names = sorted(folder.name for folder in self.settings.run_root.glob("[!.]*") if folder.is_dir())
        others = [name for name in names if name not in (self.experiment, f"{self.experiment}{PILOT}")]
        return self._by_cost(_finished(p for name in others for p in experiment_runs(self.settings.run_root, name)))

    def _by_cost(self, runs: Iterable[tuple[RunPaths, RunSpec]]) -> Runs:
        """The runs of each cost, the newest first."""
        found: Runs = {}
        for paths, spec in runs:
            if spec.origin in (Origin.TRAINED, Origin.PILOT) and _on_cluster(paths) == (self.cluster is not None):
                with suppress(UserError):  # of another experiment's minutes, which do not fit this cluster
                    found.setdefault(self._cost(spec), []).append((paths, spec))
        return {cost: sorted(own, key=_age, reverse=True) for cost, own in found.items()}

    def _cost(self, spec: RunSpec) -> Cost:
        """As the run would have it today."""
        resources = Resources(**spec.resources)
        shape = shape_of(spec.cell, resources, self.cluster, self.settings)
        return cost_of(spec.executed, spec.precision, shape, resources.workers)


def _kind(spec: RunSpec) -> str:
    return "measured by pilot" if spec.origin == Origin.PILOT else "measured"


def _named(spec: RunSpec) -> str:
    return f"{spec.experiment}/{spec.name}"


def _finished(runs: Iterable[RunPaths]) -> Iterator[tuple[RunPaths, RunSpec]]:
    for paths in runs:
        if paths.result.exists():
            with suppress(UserError):  # of another run: status tells
                yield paths, read_spec(paths)


def _on_cluster(paths: RunPaths) -> bool:
    """Whether its last attempt was a job of a cluster."""
    attempts = sorted((paths.folder / "attempts").glob("[0-9]*"))
    return bool(attempts) and (Path(attempts[-1]) / "job.json").exists()


def _age(run: tuple[RunPaths, RunSpec]) -> float:
    return run[0].result.stat().st_mtime
