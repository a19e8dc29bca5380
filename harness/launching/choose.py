"""Runs below a run root by the names of their folders, as a person names them; what is in the folders is not read."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from harness.errors import UserError
from harness.run_paths import RunPaths
from harness.wording import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRun:
    """A run, and what its folder's name says."""

    paths: RunPaths
    experiment: str
    name: str  # of the cell, with its overrides
    seed: int

    def __str__(self) -> str:
        return f"{self.name} seed {self.seed}"

    def is_called(self, pattern: str) -> bool:
        """Whether a name or a pattern means it, with its overrides or without."""
        return any(fnmatchcase(name, pattern) for name in (self.name, self.name.partition("+")[0]))


def found_run(folder: Path) -> FoundRun:
    """The run of a folder."""
    match = re.fullmatch(r"(.*)-seed(\d+)-[0-9a-f]{10}", folder.name)
    name, seed = match.groups() if match else (folder.name, "0")
    return FoundRun(paths=RunPaths(folder), experiment=folder.parent.name, name=name, seed=int(seed))


def found_runs(run_root: Path, experiment: str | None = None) -> Iterator[FoundRun]:
    """Every run of an experiment (None: of all), sorted by folder."""
    pattern = f"{experiment}/*/run.json" if experiment else "*/*/run.json"
    return (found_run(spec.parent) for spec in sorted(run_root.glob(pattern)))


def chosen(runs: Iterable[FoundRun], patterns: Sequence[str], seed: int | None = None) -> list[FoundRun]:
    """The runs that any of the names or patterns means; all without one.

    Raises UserError for a name or pattern that means none.
    """
    runs = list(runs)
    for pattern in patterns:
        if not any(run.is_called(pattern) for run in runs):
            near = did_you_mean(pattern, {run.name for run in runs})
            raise UserError(f"{pattern}: no run of this name or pattern{near}; harness status shows them")
    named = [run for run in runs if not patterns or any(map(run.is_called, patterns))]
    found = [run for run in named if seed is None or run.seed == seed]
    if named and not found:
        seeds = ", ".join(map(str, sorted({run.seed for run in named})))
        raise UserError(f"no run with seed {seed} among these; there is {seeds}")
    return found


def only(runs: Sequence[FoundRun]) -> FoundRun:
    """The one run that is meant: of several folders of one cell and seed, that with the newest state.

    Raises UserError where there is none, or they are of several cells or seeds.
    """
    if not runs:
        raise UserError("no run there yet; harness submit starts them")
    kinds = {(run.experiment, run.name, run.seed) for run in runs}
    if len(kinds) > 1:
        shown = "\n".join(f"  {name} --seed {seed} (experiment {kind})" for kind, name, seed in sorted(kinds)[:10])
        raise UserError(f"{len(kinds)} runs are meant; name one of them, such as:\n{shown}")
    return max(runs, key=_changed)


def _changed(run: FoundRun) -> float:
    return run.paths.state.stat().st_mtime if run.paths.state.exists() else 0.0
