"""tune: a study, from its first trial to what came out."""

import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from harness.cli.output import Json, print_json, print_note, print_table
from harness.wording import count

if TYPE_CHECKING:
    from harness.launching.status import RunStatus
    from harness.settings import Settings
    from harness.tuning.study_file import Study
    from harness.tuning.trials import Trial

StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file, such as experiments/tune-demo.yaml.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(tune)


def tune(
    study: StudyPath,
    cluster: Annotated[str | None, typer.Option(help="Where to run it (default: the setting `cluster`).")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what is searched and what it takes.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show the trials, and the best of them.")] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="End the command that works on it, and have its trials save and leave.")
    ] = False,
    report: Annotated[bool, typer.Option("--report", help="Write reports/NAME as things stand.")] = False,
    best: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the best trial as a matrix file, at full length.")
    ] = None,
    trial: Annotated[int | None, typer.Option(metavar="N", min=0, help="With --best: this trial.")] = None,
    json: Json = False,
) -> None:
    """Search recipe fields: run the trials of a study file, until its budget is used. Goes on where it was left."""
    from harness.cli.tune_results import conclude, write_best, write_report
    from harness.errors import UserError
    from harness.settings import load_settings
    from harness.shipped import find_experiment
    from harness.tuning.controller import control
    from harness.tuning.study_file import is_matrix, load_study

    if json and not (status or dry_run):
        raise typer.BadParameter("--json goes with --status or --dry-run")
    if trial is not None and best is None:
        raise typer.BadParameter("--trial goes with --best")
    settings = load_settings()
    settings = replace(settings, cluster=cluster) if cluster else settings
    file = find_experiment(study)
    if is_matrix(file):
        raise UserError(f"{study} declares a matrix, no study: harness submit {study}")
    loaded = load_study(file)
    typed = shlex.quote(str(study))
    if dry_run:
        _show_plan(loaded, settings, typed, json=json)
        return
    if cancel:
        _cancel(loaded, settings, typed)
        return
    if best is not None:
        write_best(loaded, settings, best, trial)
        return
    if report:
        write_report(loaded, settings)
        return
    if not status:
        signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C does, it gives the lease back
        try:
            control(loaded, settings, lambda line: print(line, flush=True))
            conclude(loaded, settings)
        except KeyboardInterrupt:
            print(f"the trials go on without this command; harness tune {typed} takes them up again", file=sys.stderr)
            raise typer.Exit(130) from None
    _show_trials(loaded, settings, typed, json=json)


def _cancel(study: "Study", settings: "Settings", typed: str) -> None:
    from harness.launching.cancel import cancel
    from harness.launching.local_queue import Home
    from harness.run_paths import experiment_runs
    from harness.tuning.turn import stop

    stop(study, settings)
    found = list(experiment_runs(settings.run_root, study.name))
    done = cancel(found, Home(settings.run_root))
    rows = [(paths.folder.name, text) for paths, text in zip(found, done, strict=True) if text]
    if rows:
        print_table(("run", "done"), rows)
    print(f"{'' if rows else 'nothing waits or works; '}harness tune {typed} goes on from here")


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _show_plan(study: "Study", settings: "Settings", typed: str, *, json: bool) -> None:
    """What is searched of what, to which end, and what the trials take that are left."""
    from harness.planning.plan import make_plan
    from harness.tuning.budget import at_once
    from harness.tuning.remeasure import runs_left
    from harness.tuning.trials import trials
    from harness.tuning.turn import is_done
    from harness.wording import duration

    base = replace(study.base, suffix=f"{study.base.suffix}+trial")
    made = make_plan(study.experiment((base,)), settings)
    (one,) = made.runs
    found = trials(study, settings)
    left = 0 if is_done(study, settings) else max(0, study.budget.trials - len(found))
    reruns = runs_left(study, found, settings)
    runs = left + reruns
    hours = None if one.estimate.gpu_hours is None else runs * one.estimate.gpu_hours
    seconds = None if one.estimate.seconds is None else one.estimate.seconds * runs / at_once(study, settings)
    if json:
        searched = {d.field: {"base": getattr(study.base.recipe, d.field), "search": str(d)} for d in study.space}
        totals = {"trials": study.budget.trials, "left": left, "reruns": reruns}
        taken = {"gpu_hours": hours, "seconds": seconds}
        print_json({"study": study.name, "cell": study.base.name, "search": searched, **totals, **taken})
        return
    print(f"{study.name}: {study.base.name}, {', '.join(map(str, study.objectives))}")
    if study.base.shortening:
        print(f"shortened ({study.base.shortening.describe()})")
    print()
    print_table(("field", "base", "searched"), [_dimension(study, dimension) for dimension in study.space])
    print(f"\n{study.sampler.kind} sampler, pruner {study.pruner.kind}; at the same time: {at_once(study, settings)}")
    takes = (
        "nothing tells how long they take" if seconds is None else f"{duration(seconds)}, {hours or 0.0:.1f} GPU-hours"
    )
    bound = "" if study.budget.gpu_hours is None else f", at most {study.budget.gpu_hours:g} GPU-hours"
    trials_left = f"{left} of {count(study.budget.trials, 'trial')} left"
    print(f"{trials_left}, then {count(reruns, 'run')} that measure the best and the base again")
    print(f"{takes}, if no trial is pruned{bound}")
    print(f"by: {one.estimate.source}")
    for text in made.missing:
        print(f"missing: {text}")
    print(f"now run: harness tune {typed}" if not made.missing else f"now run: harness fetch {typed}")


def _dimension(study: "Study", dimension: Any) -> tuple[str, str, str]:
    from harness.tuning.space import param_of

    return dimension.field, str(param_of(getattr(study.base.recipe, dimension.field))), str(dimension)


def _show_trials(study: "Study", settings: "Settings", typed: str, *, json: bool) -> None:
    """A line a trial, and the best."""
    from harness.launching.status import status_rows
    from harness.run_paths import experiment_runs
    from harness.tracking.repair import repair
    from harness.tuning.trials import trials, trials_experiment

    found = trials(study, settings)
    rows = {row.folder: row for row in status_rows(trials_experiment(study, settings), settings)} if found else {}
    if json:
        print_json([_plain(study, trial, rows.get(str(trial.paths.folder))) for trial in found])
        return
    fields = [dimension.field for dimension in study.space]
    header = ("trial", *fields, *(objective.metric for objective in study.objectives), "state", "epoch", "GPU-h", "")
    print_table(header, [_line(study, trial, rows.get(str(trial.paths.folder))) for trial in found])
    repair(experiment_runs(settings.run_root, study.name), settings.tracking_uri, print_note)
    print("\n".join(_closing(study, found, settings, typed)))


def _plain(study: "Study", trial: "Trial", row: "RunStatus | None") -> dict[str, Any]:
    metrics = [objective.metric for objective in study.objectives]
    return {
        "trial": trial.number,
        "params": trial.params,
        "state": str(trial.state),
        "values": dict(zip(metrics, trial.values, strict=True)) if trial.values else None,
        "reason": trial.reason,
        "folder": str(trial.paths.folder),
        "gpu_hours": row.gpu_hours if row else None,
        "run": row.state if row else None,
    }


def _line(study: "Study", trial: "Trial", row: "RunStatus | None") -> tuple[object, ...]:
    from harness.tuning.trials import TrialState
    from harness.wording import hours

    values: Sequence[float | None] = trial.values or [None] * len(study.objectives)
    params = (trial.params[dimension.field] for dimension in study.space)
    works = row is not None and trial.state == TrialState.RUNNING
    return (
        trial.number,
        *(f"{value:.4g}" if isinstance(value, float) else value for value in params),
        *("" if v is None else objective.shown(v) for objective, v in zip(study.objectives, values, strict=True)),
        f"{row.state}" if works and row else trial.state,
        f"{row.epoch}/{row.epochs}" if row and (row.epoch or trial.state == TrialState.PRUNED) else "",
        hours(row.gpu_hours) if row and row.gpu_hours else "",
        (row.reason if works and row else trial.reason)[:100],
    )


def _closing(study: "Study", found: "list[Trial]", settings: "Settings", typed: str) -> list[str]:
    """How many are in which state, the best, and what to do next."""
    from collections import Counter

    from harness.tuning.best import front
    from harness.tuning.study_file import storage_url
    from harness.tuning.turn import is_done, is_taken

    counts = Counter(str(trial.state).lower() for trial in found)
    states = ", ".join(f"{number} {state}" for state, number in counts.items()) or "-"
    lines = ["", f"{len(found)} of {count(study.budget.trials, 'trial')}: {states}"]
    for trial in front(study, found):
        told = ", ".join(f"{o.metric} {o.shown(v)}" for o, v in zip(study.objectives, trial.values or (), strict=True))
        params = ", ".join(f"{name}={value}" for name, value in trial.params.items())
        lines.append(f"best: trial {trial.number}, {told}: {params}")
    if not is_taken(study, settings) and (counts["running"] or not is_done(study, settings)):
        lines.append(f"no controller works on it; now run: harness tune {typed}")
    elif found:
        lines.append(f"curves and importances: optuna-dashboard {storage_url(study, settings)}")
    return lines
