"""What a submit would do and why, run by run, and what that takes: GPU-hours, time, room on the disk."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.errors import UserError
from harness.files import read_json
from harness.launching import prepare
from harness.launching.cluster import JobShape
from harness.launching.cluster_check import share_fault
from harness.launching.decide import STARTING, Action, Decision, decide
from harness.launching.prepare import PreparedRun
from harness.matrix import Experiment, PlannedCell
from harness.planning import assumed
from harness.planning.cost import Cost, cost_of, find_cluster, gpus, processes, shape_of
from harness.planning.counts import KNOWN, Images, count_images
from harness.planning.disk import Room, room
from harness.planning.estimate import Estimate, Work, assumed_rates, estimate, work_left
from harness.planning.footprint import checkpoint_bytes
from harness.planning.known import Known
from harness.planning.measured import Measured, measure
from harness.planning.scaling import makespan
from harness.recipe import Recipe
from harness.run_paths import RunPaths
from harness.run_spec import Origin
from harness.run_state import State
from harness.settings import Settings

NODE_GPUS = 8
"""Of the nodes that `make_plan` may be asked for."""
MISSING = "cannot start"
"""Instead of an action, where data or weights are missing, or a job asks for too many processes."""
UNKNOWN = "not known: harness submit --pilot measures it"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """A cell with a seed, what a submit does with it, and what is left to do of it."""

    name: str
    seed: int
    state: str
    action: str  # of submit.Action, or MISSING
    why: str
    gpus: int
    estimate: Estimate
    cost: Cost  # what else takes the same
    checkpoint: int  # bytes of one; 0 where it leaves none

    @property
    def starting(self) -> bool:
        """Whether a submit gives it a job, or would if nothing were missing."""
        return self.action in (*STARTING, MISSING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All runs of an experiment."""

    runs: tuple[RunPlan, ...]
    missing: tuple[str, ...]  # what the runs need and do not find, a line each
    faults: tuple[str, ...]  # of the cluster file, a line each
    room: Room  # for the run root
    at_once: int | None  # runs, at most; None: as many as the cluster has room for
    nodes: int | None = None  # of NODE_GPUS that all runs share, if that is asked for

    @property
    def starting(self) -> tuple[RunPlan, ...]:
        """What a submit gives jobs."""
        return tuple(run for run in self.runs if run.starting)

    @property
    def gpu_hours(self) -> float:
        """Of what is known of the runs that a submit starts."""
        return sum(run.estimate.gpu_hours or 0.0 for run in self.starting)

    @property
    def unknown(self) -> tuple[RunPlan, ...]:
        """Runs that a submit starts and of which nothing tells how long they take."""
        return tuple(run for run in self.starting if run.estimate.seconds is None)

    @property
    def seconds(self) -> float:
        """From the first start to the last end, in the order of the matrix, if nothing else takes up the cluster."""
        times = [(run.gpus, run.estimate.seconds or 0.0) for run in self.starting]
        if self.nodes is not None:
            return makespan([(max(1, gpus), time) for gpus, time in times], self.nodes * NODE_GPUS)
        return makespan([(1, time) for _, time in times], self.at_once or max(1, len(times)))

    @property
    def overhead(self) -> float | None:
        """The share of their time in which runs do no training step, of those whose times were measured."""
        told = [run.estimate for run in self.starting if run.estimate.seconds and run.estimate.steps_s is not None]
        steps, seconds = sum(own.steps_s or 0.0 for own in told), sum(own.seconds or 0.0 for own in told)
        return 1 - steps / seconds if told else None

    @property
    def size(self) -> int:
        """Bytes that the runs which a submit starts have on the disk at their largest."""
        return sum(run.estimate.bytes or 0 for run in self.starting)


def make_plan(experiment: Experiment, settings: Settings, *, nodes: int | None = None) -> Plan:
    """The plan of a submit to the cluster of the settings. Nothing is written but what is remembered of data sets.

    nodes: how long it takes on so many of NODE_GPUS; None: on as many as the cluster's settings let run at once.
    Without data or weights the runs that need them cannot start, and are planned by what is known of their data set.
    Raises UserError where the cluster is not known, or has jobs of these runs and does not answer.
    """
    runs, missing = _prepared(experiment, settings)
    return replace(plan_of(experiment, settings, decide(runs, settings), missing), nodes=nodes)


def plan_of(
    experiment: Experiment, settings: Settings, decisions: Iterable[Decision], missing: Sequence[str] = ()
) -> Plan:
    """The plan of decisions that are made; see make_plan."""
    planner = _Planner(experiment, settings, decisions)
    cluster = planner.cluster
    runs = tuple(planner.plan(*run) for run in planner.runs())
    return Plan(
        runs=runs,
        missing=tuple(missing),
        faults=tuple(planner.faults),
        room=room(settings.run_root),
        at_once=settings.local_jobs if cluster is None else cluster.array_parallelism,
    )


def unmeasured(plan: Plan) -> int:
    """How many kinds of cells a submit starts of which no run has measured what they take."""
    return len({run.cost for run in plan.starting if run.estimate.measured is None})


def _prepared(experiment: Experiment, settings: Settings) -> tuple[list[PreparedRun], list[str]]:
    """The runs whose identity is known, and what the others lack."""
    groups: dict[tuple[str, str], list[PlannedCell]] = {}
    for planned in experiment.cells:
        groups.setdefault((planned.recipe.dataset, planned.recipe.pretrained), []).append(planned)
    found: list[PreparedRun] = []
    missing: dict[str, None] = {}
    for cells in groups.values():
        try:
            found += prepare.prepare(experiment, settings, cells)
        except UserError as error:
            missing |= dict.fromkeys(str(error).splitlines())
    return found, list(missing)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cell:
    """A planned cell, looked at once for all its seeds."""

    planned: PlannedCell
    name: str
    recipe: Recipe  # as executed
    shape: JobShape

    def cost(self, precision: str) -> Cost:
        return cost_of(self.recipe, precision, self.shape, self.planned.resources.workers)


class _Planner:
    """Plans run by run; what several runs share is looked up once."""

    def __init__(self, experiment: Experiment, settings: Settings, decisions: Iterable[Decision]) -> None:
        self.experiment, self.settings = experiment, settings
        self.decisions = {(decision.run.spec.name, decision.run.spec.seed): decision for decision in decisions}
        self.cluster = find_cluster(settings)
        finished = [d.run for d in self.decisions.values() if d.action == Action.SKIP]
        self.known = Known(experiment.name, settings, self.cluster, finished)
        self.counted: dict[tuple[str, ...], Images | None] = {}
        self.faults: dict[str, None] = {}  # of the cluster file, a line each
        self.trained = experiment.origin != Origin.PUBLISHED

    def runs(self) -> Iterator[tuple[_Cell, int, Decision | None]]:
        """Every cell with each seed, and the decision on it where nothing is missing."""
        for planned in self.experiment.cells:
            shape = shape_of(planned.cell.name, planned.resources, self.cluster, self.settings)
            cell = _Cell(planned=planned, name=planned.name, recipe=planned.executed, shape=shape)
            for seed in self.experiment.seeds:
                yield cell, seed, self.decisions.get((cell.name, seed))

    def plan(self, cell: _Cell, seed: int, decision: Decision | None) -> RunPlan:
        """What becomes of a run."""
        fault = self._fault(cell)
        return RunPlan(
            name=cell.name,
            seed=seed,
            state="NEW" if decision is None or decision.action == Action.START else str(decision.state.state),
            action=MISSING if decision is None or (fault and decision.action in STARTING) else str(decision.action),
            why="more processes than its batch is for" if fault else _why(decision),
            gpus=gpus(cell.shape),
            estimate=self._estimate(cell, decision),
            cost=cell.cost(_precision(cell, decision)),
            checkpoint=checkpoint_bytes(cell.recipe) if self.trained else 0,
        )

    def _fault(self, cell: _Cell) -> str:
        if self.cluster is None or not self.trained:
            return ""
        fault = share_fault(self.cluster, cell.planned.cell.name, cell.shape, cell.recipe)
        if fault:
            self.faults[fault] = None
        return fault

    def measured(self, cell: _Cell, decision: Decision | None) -> tuple[Measured | None, str]:
        """What tells most of the run, and what that is."""
        if decision and decision.state.attempt:
            own = measure(decision.run.paths)
            if own is not None and own.processes == processes(cell.shape):
                return own, f"measured: itself, on {own.hardware}"
        return self.known.find(cell.cost(_precision(cell, decision)))

    def _estimate(self, cell: _Cell, decision: Decision | None) -> Estimate:
        if decision and decision.action == Action.SKIP:
            return Estimate(source="finished", iterations=0, seconds=0.0, gpu_hours=0.0, bytes=0)
        work = self._work(cell, decision)
        if work is None:
            return Estimate(source="not known: the data set is not at hand")
        measured, source = self.measured(cell, decision)
        rates = measured.rates if measured else assumed_rates(cell.recipe, _precision(cell, decision), gpus(cell.shape))
        source = source if measured else assumed.SOURCE if rates else UNKNOWN
        return estimate(work, cell.recipe, rates, source, shape=cell.shape, measured=measured)

    def _work(self, cell: _Cell, decision: Decision | None) -> Work | None:
        images, shortening = self._images(cell, decision), cell.planned.shortening
        if images is None:
            return None
        epoch, step = _position(decision.run.paths) if decision and decision.action != Action.START else (0, 0)
        return work_left(
            epochs=cell.recipe.epochs if self.trained else 1,
            iterations=images.iterations(cell.recipe, shortening) if self.trained else 0,
            images=images.tested(shortening),
            epoch=epoch,
            step=step,
            trained=self.trained,
        )

    def _images(self, cell: _Cell, decision: Decision | None) -> Images | None:
        if decision is None:
            return KNOWN.get(cell.recipe.dataset)
        spec, min_size = decision.run.spec, cell.recipe.min_image_size
        place = (spec.train.digest if spec.train else "", spec.val.digest, str(min_size))
        if place not in self.counted:
            self.counted[place] = count_images(spec.train, spec.val, min_size, self.settings.cache_root)
        return self.counted[place]


def _precision(cell: _Cell, decision: Decision | None) -> str:
    """As it will be executed, where that is known."""
    return decision.run.spec.precision if decision else cell.recipe.precision


def _position(paths: RunPaths) -> tuple[int, int]:
    """(epochs, iterations) that the newest checkpoint has behind it."""
    latest = paths.checkpoints / "latest.json"
    newest = read_json(latest)[-1] if latest.exists() else {"epoch": 0, "step": 0}
    return newest["epoch"], newest["step"]


def _why(decision: Decision | None) -> str:
    if decision is None:
        return "data or weights are missing"
    state = decision.state
    if decision.action == Action.START:
        return "new"
    if state.state == State.FINISHED:
        return "finished"
    said = state.reason or state.progress
    return decision.text or f"{state.state.lower()}{f': {said}' if said else ''}"
