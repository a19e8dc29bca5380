"""A study file becomes a Study: what is varied of which cell, to what end, at what cost; or a list of its mistakes."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import yamlfile
from harness.document import Document, Loc, validate
from harness.matrix import Experiment, PlannedCell, plan_cells
from harness.matrix_file import NAME, MatrixFile
from harness.recipe import to_dict, with_overrides
from harness.settings import SQLITE, Settings, split_address
from harness.tuning.objective import Objective, parse_objectives
from harness.tuning.space import Dimension, Param, contains, edits, param_of, parse_space
from harness.tuning.study_schema import PrunerBlock, SamplerBlock, StudyFile
from harness.wording import shown

OF_KINDS = {
    "startup_trials": ("median", "percentile"),
    "percentile": ("percentile",),
    "warmup": ("median", "percentile", "hyperband"),
}
"""Keys of a pruner that some kinds alone have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """When a study has ended."""

    trials: int  # those that were pruned or failed included, but for such as failed in a row and are tried again
    gpu_hours: float | None  # of all attempts of all trials; None: not bounded
    parallel: int | None  # trials at the same time; None: as many as run at once on this machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One study file, resolved."""

    name: str  # also of the experiment that its trials are runs of
    description: str
    path: Path
    base: PlannedCell  # what is varied
    seed: int  # of every trial
    space: tuple[Dimension, ...]
    objectives: tuple[Objective, ...]
    budget: Budget
    sampler: SamplerBlock
    pruner: PrunerBlock
    storage: str | None  # URL of an RDB; None: a file beside the runs
    confirm_seeds: tuple[int, ...]  # of no trial: what measures the best trial and the base again

    @property
    def reruns(self) -> int:
        """How many trainings measure the best trial and the base again."""
        return 2 * len(self.confirm_seeds)

    @property
    def prunes(self) -> bool:
        """Whether trials may be ended early."""
        return self.pruner.kind != "none"

    @property
    def base_params(self) -> dict[str, Param]:
        """The base's own values of the searched fields, as an optimiser has them; empty where one is not in range."""
        values = {dimension.field: getattr(self.base.recipe, dimension.field) for dimension in self.space}
        inside = all(contains(dimension, values[dimension.field]) for dimension in self.space)
        return {name: param_of(value) for name, value in values.items()} if inside else {}

    @property
    def definition(self) -> dict[str, Any]:
        """What makes its trials comparable: plain data that must stay the same from its first trial on."""
        return {
            "cell": self.base.cell.name,
            "recipe": to_dict(self.base.recipe),
            "shorten": dataclasses.asdict(self.base.shortening),
            "seed": self.seed,
            "search": {dimension.field: str(dimension) for dimension in self.space},
            "objective": [str(objective) for objective in self.objectives],
        }

    def cell(self, number: int, params: dict[str, Param]) -> PlannedCell:
        """The cell of a trial.

        Raises UserError where the values of its fields contradict each other.
        """
        recipe = with_overrides(self.base.recipe, edits(self.space, params))
        return dataclasses.replace(self.base, recipe=recipe, suffix=f"{self.base.suffix}+trial{number:03d}")

    def experiment(self, cells: tuple[PlannedCell, ...]) -> Experiment:
        """Trials as an experiment, which is submitted and looked at like any other."""
        return Experiment(
            name=self.name, description=self.description, path=self.path, seeds=(self.seed,), cells=cells, tables=()
        )


def study_folder(run_root: Path, name: str) -> Path:
    """Where the storage of a study is by default, and who controls it."""
    return run_root / ".studies" / name


def storage_url(study: Study, settings: Settings) -> str:
    """The RDB that holds the study for its sampler, and for optuna-dashboard. The run folders are the truth."""
    return study.storage or f"{SQLITE}{study_folder(settings.run_root, study.name) / 'study.db'}"


def is_study(path: Path) -> bool:
    """Whether a YAML file declares a study, and not a matrix."""
    return "search" in yamlfile.load(path).tree


def is_matrix(path: Path) -> bool:
    """Whether a YAML file declares a matrix, and nothing of a study."""
    keys = yamlfile.load(path).tree.keys()
    return bool(keys & {"axes", "paired", "include"}) and not keys & {"cell", "search", "objective", "budget"}


def load_study(path: Path | str) -> Study:
    """Read a study file.

    Raises UserError with every mistake of the file, each as file:line:column, what, the expected, the nearest name.
    """
    document = yamlfile.load(Path(path))
    file = validate(document, StudyFile)
    base = _base(document, file)
    space = parse_space(document, file.search, base.recipe if base else None)
    objectives = parse_objectives(document, file.objective)
    name = file.name or Path(path).stem
    if not NAME.fullmatch(name):
        document.mistake(("name",), f"name {name!r} must be letters, digits, '.', '_' or '-', at most 64")
    _check_strategy(document, file, objectives)
    _check_seeds(document, file)
    if file.budget.trials is None:
        document.mistake(("budget",), "budget.trials is missing: how many trials there are to be")
    storage = _storage(document, file.storage)
    document.raise_mistakes()
    assert base is not None and file.budget.trials is not None  # or there are mistakes
    return Study(
        name=name,
        description=file.description,
        path=Path(path),
        base=base,
        seed=file.seed,
        space=space,
        objectives=objectives,
        budget=Budget(trials=file.budget.trials, gpu_hours=file.budget.gpu_hours, parallel=file.budget.parallel),
        sampler=file.sampler,
        pruner=file.pruner,
        storage=storage,
        confirm_seeds=tuple(file.confirm_seeds),
    )


def _base(document: Document, file: StudyFile) -> PlannedCell | None:
    """The cell that is varied, read as the one cell of a matrix; None where it has mistakes."""

    def locate(loc: Loc, key: bool) -> tuple[int, int]:
        return document.locate(("cell", *loc[2:]) if loc[:1] == ("include",) else loc, key)

    before = len(document.mistakes)
    matrix = MatrixFile(include=[{**file.cell}], recipe=file.recipe, shorten=file.shorten, resources=file.resources)
    cells = plan_cells(dataclasses.replace(document, locate=locate), matrix)
    return cells[0] if len(document.mistakes) == before else None


def _check_strategy(document: Document, file: StudyFile, objectives: tuple[Objective, ...]) -> None:
    sampler, pruner = file.sampler, file.pruner
    if sampler.startup_trials is not None and sampler.kind not in ("tpe", "gp"):
        document.mistake(("sampler", "startup_trials"), f"a {sampler.kind} sampler has no startup_trials")
    for key in ("startup_trials", "warmup", "percentile"):
        if getattr(pruner, key) is not None and pruner.kind not in OF_KINDS.get(
            key, ("median", "percentile", "hyperband")
        ):
            document.mistake(("pruner", key), f"a pruner of kind {pruner.kind} has no {key}")
    if pruner.kind == "none" or not objectives:
        return
    if len(objectives) > 1:
        text = "trials with several objectives are not pruned, as none of two is simply better: remove the pruner"
        document.mistake(("pruner",), text)
    elif objectives[0].mode == "result":
        text = f"{objectives[0].metric} is measured once, at the end of a run: remove the pruner"
        document.mistake(("pruner",), text)


def _check_seeds(document: Document, file: StudyFile) -> None:
    for index, seed in enumerate(file.confirm_seeds):
        if seed == file.seed or seed in file.confirm_seeds[:index]:
            what = "is the trials' own" if seed == file.seed else "is there already"
            document.mistake(("confirm_seeds", index), f"seed {seed} {what}; expected unused ones")


def _storage(document: Document, url: str | None) -> str | None:
    """The URL with the path of an SQLite file made absolute, relative to the study file."""
    if url is None:
        return None
    if url.startswith(SQLITE):
        return f"{SQLITE}{(document.path.parent / Path(url.removeprefix(SQLITE)).expanduser()).absolute()}"
    try:
        password = split_address(url).password
    except ValueError:
        document.mistake(("storage",), "storage is no address; expected sqlite:///FILE or postgresql://HOST/NAME")
        return url
    if password is not None:
        document.mistake(("storage",), "a password is seen by all who read this file: use PGPASSWORD or ~/.pgpass")
    elif "://" not in url:
        document.mistake(("storage",), f"storage is {shown(url)}, expected sqlite:///FILE or postgresql://HOST/NAME")
    return url
