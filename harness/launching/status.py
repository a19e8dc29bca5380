"""Where every run of an experiment stands: run folders, their journals, squeue and sacct together, as they are now."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import UserError
from harness.imported import minus_published
from harness.launching import local_queue, prepare, supervisor
from harness.launching.choose import found_run
from harness.launching.gpu_hours import gpu_hours
from harness.launching.job_file import Job, read_job
from harness.launching.output import output_of
from harness.launching.prepare import PreparedRun
from harness.launching.progress import Progress, Work, progress_of, read_attempts
from harness.launching.restarts import fruitless
from harness.launching.slurm_ask import Accounting
from harness.launching.standings import Standing, out_of_sight, standings
from harness.matrix import Experiment
from harness.processes import whereabouts
from harness.run_paths import RunPaths, experiment_runs
from harness.run_spec import RunSpec, read_spec
from harness.run_state import STARTING, State
from harness.settings import Settings
from harness.wording import duration

SILENCE = 120.0
"""Seconds without a note of rank 0 after which status says so; it writes one every few seconds."""
NEW, BROKEN = "NEW", "BROKEN"
"""Where a run stands that was never submitted, and one whose files cannot be read; any other is a State."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """All that is to be said of a run: AP is 0..1; None is what is not known, or not yet."""

    name: str
    seed: int
    state: str
    attempt: int = 0
    restarts: int = 0  # of its present job: how often that was requeued
    reason: str = ""  # why it waits, failed, or is in trouble
    kind: str = ""  # of a failure
    text: str = ""  # the same with job, node and what the attempt says of itself
    fault: str = ""  # why the cluster does not tell
    epoch: int = 0  # the one that it is in, from 1
    epochs: int | None = None
    step: int = 0  # iterations that are done
    steps: int | None = None
    eta_seconds: float | None = None  # of a run that works
    loss: float | None = None
    box_ap: float | None = None
    mask_ap: float | None = None
    minus_published: dict[str, float] | None = None  # AP minus an imported log's at the epoch of the last evaluation
    iteration_seconds: float | None = None
    gpu_hours: float = 0.0  # of all attempts
    gpu_hours_expected: float | None = None  # in the end
    job: str = ""
    node: str = ""
    heard: float | None = None  # when it said something last, in seconds since 1970
    folder: str = ""
    output: str = ""  # the file with the output of its last attempt, or its folder; "" before its first

    @property
    def ended(self) -> bool:
        """Whether nothing will happen to it by itself."""
        return self.state not in (State.QUEUED, State.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What was read of a run."""

    paths: RunPaths
    spec: RunSpec
    job: Job | None
    attempts: list[Work]

    @property
    def jobs(self) -> set[str]:
        """The ids of all its jobs."""
        return {work.job for work in self.attempts if work.job} | ({self.job.id} if self.job and self.job.id else set())


def status_rows(experiment: Experiment, settings: Settings) -> list[RunStatus]:
    """A row for each cell and seed of the matrix, in its order, and then for runs that it no longer contains.

    SLURM is asked once what waits and works, and its accounting, if any, once for all jobs of all runs. A run that
    cannot be read is BROKEN, with the reason; the others are shown all the same.
    """
    known: dict[Path, _Known] = {}
    rows: dict[Path, RunStatus] = {}
    for paths in experiment_runs(settings.run_root, experiment.name):
        try:
            known[paths.folder] = _read(paths)
        except UserError as error:
            rows[paths.folder] = _broken(paths.folder, error)
    accounting = Accounting(job for run in known.values() for job in run.jobs)
    found = standings([run.paths for run in known.values()], patient=True, accounting=accounting)
    supervised = supervisor.lives(local_queue.Home(settings.run_root))
    for run, standing in zip(known.values(), found, strict=True):
        try:
            rows[run.paths.folder] = _row(run, standing, accounting, supervised=supervised)
        except UserError as error:
            rows[run.paths.folder] = _broken(run.paths.folder, error)
    mine = []
    for name, seed, folder in wanted_runs(experiment, settings, rows):
        new = RunStatus(name=name, seed=seed, state=NEW)
        mine.append(rows.pop(folder, new) if folder else new)
    return [*mine, *map(_superseded, rows.values())]


def wanted_runs(
    experiment: Experiment, settings: Settings, present: Mapping[Path, RunStatus]
) -> list[tuple[str, int, Path | None]]:
    """(name, seed, folder) of every run of the matrix. Where data or weights are missing, so that no identity is known,

    the folder is that of a run of this name and seed, if one is present.
    """
    try:
        return _named(prepare.prepare(experiment, settings))
    except UserError:
        found = {(row.name, row.seed): folder for folder, row in present.items()}
    wanted: list[tuple[str, int, Path | None]] = []
    for planned in experiment.cells:
        try:
            wanted += _named(prepare.prepare(experiment, settings, [planned]))
        except UserError:
            wanted += [(planned.name, seed, found.get((planned.name, seed))) for seed in experiment.seeds]
    return wanted


def _named(runs: list[PreparedRun]) -> list[tuple[str, int, Path | None]]:
    return [(run.spec.name, run.spec.seed, run.paths.folder) for run in runs]


def _read(paths: RunPaths) -> _Known:
    return _Known(paths=paths, spec=read_spec(paths), job=read_job(paths), attempts=read_attempts(paths))


def _row(run: _Known, standing: Standing, accounting: Accounting, *, supervised: bool) -> RunStatus:
    state, spec, paths = standing.state, run.spec, run.paths
    progress = progress_of(paths, run.attempts, state.state, starting=state.progress == STARTING)
    last = run.attempts[-1] if run.attempts else None
    hours = gpu_hours(run.attempts, run.jobs, accounting, f"{spec.experiment}-")
    epochs = spec.executed.epochs
    works = state.state == State.RUNNING
    troubles = list(_troubles(run, standing, progress, supervised=supervised))
    return RunStatus(
        name=spec.name,
        seed=spec.seed,
        state=str(state.state),
        attempt=state.attempt,
        restarts=standing.job.restarts if standing.job else last.restarts if last else 0,
        kind=state.kind or "",
        reason=_joined(state.reason, _wait(standing), *troubles),
        text=_joined(state.reason or state.progress, standing.text, *troubles),
        fault=standing.fault,
        epoch=_epoch(progress, epochs, state.state),
        epochs=epochs,
        step=progress.step,
        steps=progress.steps,
        eta_seconds=progress.left if works else None,
        loss=progress.loss,
        box_ap=progress.box_ap,
        mask_ap=progress.mask_ap,
        minus_published=_minus_published(run),
        iteration_seconds=progress.iteration_seconds,
        gpu_hours=hours.used,
        gpu_hours_expected=hours.expected(0.0 if state.state == State.FINISHED else progress.left),
        job=standing.job.id if standing.job else run.job.id or "" if run.job else "",
        node=_node(standing, last),
        heard=max(state.updated, progress.heard) or None,
        folder=str(paths.folder),
        output=_output(run, state.attempt),
    )


def _epoch(progress: Progress, epochs: int, state: State) -> int:
    """The one that it is in; of one that has finished, perhaps before its last epoch, the last that it completed."""
    if state != State.FINISHED:
        return progress.epoch(epochs)
    return progress.step * epochs // progress.steps if progress.steps else epochs


def _output(run: _Known, attempt: int) -> str:
    own = next((work.job for work in run.attempts if work.number == attempt), None)
    file = output_of(run.paths, attempt, run.job, own or (run.job.id if run.job else None))
    if file and file.exists():
        return str(file)
    return str(run.paths.folder) if run.attempts else ""


def _broken(folder: Path, error: UserError) -> RunStatus:
    """The row of a run of which only the folder's name can be read."""
    run, why, place = found_run(folder), str(error), str(folder)
    return RunStatus(name=run.name, seed=run.seed, state=BROKEN, reason=why, text=why, folder=place, output=place)


def _superseded(row: RunStatus) -> RunStatus:
    said = "not in the matrix as it is now"
    return replace(row, reason=_joined(row.reason, said), text=_joined(row.text, said))


def _joined(*texts: str) -> str:
    return "; ".join(filter(None, texts))


def _wait(standing: Standing) -> str:
    """Why its job waits, or is not in the queue."""
    if standing.job is None:
        return standing.text if standing.queued and not standing.fault else ""
    return standing.text.removeprefix(f"job {standing.job.id} ") if standing.state.state == State.QUEUED else ""


def _node(standing: Standing, last: Work | None) -> str:
    """Where it works, or did at last."""
    if standing.job and standing.job.nodes:
        return standing.job.nodes
    return (last.node or standing.state.host) if last else ""


def _troubles(run: _Known, standing: Standing, progress: Progress, *, supervised: bool) -> Iterator[str]:
    """What else there is to say of a run that is not finished."""
    state = standing.state.state
    if standing.job and standing.job.restarts:
        yield f"requeued {times(standing.job.restarts)}"
    if state == State.QUEUED and not supervised and run.job is None:
        yield "no supervisor lives: harness submit starts one"
    if state == State.FAILED and len(attempts := fruitless(run.paths)) > 1:
        yield f"{len(attempts)} attempts in a row without a newer checkpoint"
    if state == State.RUNNING and standing.state.progress != STARTING:  # else the note is of the attempt before
        note = run.attempts[-1].note if run.attempts else None
        yield from (f"slow: {text}" for text in (note.slow if note else ()))
        if note and (silence := time.time() - note.written) > SILENCE:
            yield f"no sign of life from {note.host} for {silence:.0f} s"
    if state == State.RUNNING and run.job is None and whereabouts(standing.state) != standing.state.host:
        yield out_of_sight(standing.state)
    if standing.fault:
        heard = max(standing.state.updated, progress.heard)
        yield f"SLURM does not answer; {duration(time.time() - heard)} ago it was so"


def times(number: int) -> str:
    """Once, 2 times."""
    return "once" if number == 1 else f"{number} times"


def _minus_published(run: _Known) -> dict[str, float] | None:
    """Box and mask AP of the last validation minus the imported curve's at the same epoch."""
    last = next((work.val for work in reversed(run.attempts) if work.val), None)
    return minus_published(run.paths.folder.parent.parent, run.spec, last["epoch"], last) or None if last else None
