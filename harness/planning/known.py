"""What runs of the same cost have measured: finished ones of the experiment, its pilots, those of other experiments."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from harness.errors import UserError
from harness.launching.cluster import Cluster
from harness.launching.prepare import PreparedRun
from harness.matrix_file import Resources
from harness.planning.cost import Cost, cost_of, processes, shape_of
from harness.planning.measured import Measured, measure
from harness.runs import Origin, RunPaths, RunSpec, experiment_runs, read_spec
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
            self._found[cost] = self._find(cost)
        return self._found[cost]

    def _find(self, cost: Cost) -> tuple[Measured | None, str]:
        for place in self._places():
            for paths, spec in place.get(cost, ()):
                found = measure(paths)
                if found is not None and found.processes == processes(cost.shape):
                    kind = "measured by pilot" if spec.origin == Origin.PILOT else "measured"
                    return found, f"{kind}: {spec.experiment}/{spec.name}, on {found.hardware}"
        return None, ""

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
