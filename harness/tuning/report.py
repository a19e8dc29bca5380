"""The report of a study: README.md, plots and the trials as CSV, all from the run folders.

The same folders give the same bytes.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from harness.errors import UserError
from harness.intervals import LEVEL, MEASURED
from harness.launching.status import RunStatus, status_rows
from harness.reporting.command import typed_path
from harness.reporting.figures import PLOTS, Figures
from harness.reporting.figures import files as figure_files
from harness.reporting.markdown import escape, result_table, table
from harness.reporting.measures import ABSENT, over_runs
from harness.reporting.page import PAGE, read_page, shown_figures, splice, write_files
from harness.reporting.sheets import LINKED, SHEETS, sheet
from harness.reporting.tables import Link, ResultTable, TableCell, TableRow, target
from harness.settings import SQLITE, Settings
from harness.tuning.best import finished, front, scores
from harness.tuning.importance import importances, silence
from harness.tuning.remeasure import Remeasured, difference, is_base, remeasured, verdict
from harness.tuning.study_file import Study, storage_url
from harness.tuning.study_plots import by_field, curves, history, tradeoff, written
from harness.tuning.trials import Trial, TrialState, on_the_way, trials, trials_experiment
from harness.wording import count

STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAILED: "failed",
    TrialState.RUNNING: "running",
}
"""What a report calls them."""


def write_study_report(study: Study, settings: Settings, output: Path) -> Path:
    """Write the report into the folder `output`; its README.md, whose text outside the generated markers is kept.

    Raises UserError where no trial has been started, or the markers are broken.
    """
    found = trials(study, settings)
    if not found:
        raise UserError(f"{study.path}: no trial has been started; harness tune {study.path} runs them")
    rows = {row.folder: row for row in status_rows(trials_experiment(study, settings), settings)}
    drawn, listed = _figures(study, found), _trials(study, found, rows, _relative(settings.run_root, output))
    lines = [f"# {escape(study.name)}", ""]
    lines += [escape(study.description), ""] if study.description else []
    lines += [_counted(study, found, rows.values()), ""]
    lines += [*_best(study, found, settings), *_searched(study, found), *shown_figures(drawn)]
    lines += [*_importance(study, found), "## Trials", "", *result_table(listed), "", *_further(study, settings)]
    files = {
        PAGE: splice(read_page(output), "\n".join(lines) + "\n"),
        f"{SHEETS}/trials.csv": sheet(listed, {}),
        **figure_files(drawn),
    }
    write_files(files, output)
    return output / PAGE


def _relative(folder: Path, start: Path) -> str:
    return PurePath(os.path.relpath(folder.resolve(), start.resolve())).as_posix()


def _counted(study: Study, found: Sequence[Trial], rows: Iterable[RunStatus]) -> str:
    counts = Counter(STATES[trial.state] for trial in found)
    states = ", ".join(f"{counts[state]} {state}" for state in STATES.values() if counts[state])
    bound = f" of {study.budget.gpu_hours:g}" if study.budget.gpu_hours else ""
    hours = sum(row.gpu_hours for row in rows)
    return (
        f"{count(len(found), 'trial')}: {states}. {hours:.1f} GPU-hours{bound}, those of what was pruned, failed, "
        "repeated and measured again included."
    )


def _best(study: Study, found: Sequence[Trial], settings: Settings) -> list[str]:
    """The best trial and what measuring it again gave; of several objectives all that are not beaten."""
    best = front(study, found)
    if not best:
        return ["## Best", "", "No trial has finished yet.", ""]
    lines = [f"- trial {trial.number}: {escape(scores(study, trial.values or ()))}" for trial in best]
    if len(best) > 1:
        lines = ["Beaten by none in all objectives:", "", *lines]
    if is_base(study, best[0]):
        return ["## Best", "", *lines, "", f"Trial {best[0].number} is the base itself.", ""]
    again = remeasured(study, best[0], settings)
    return ["## Best", "", *lines, "", *_again(study, again), ""]


def _again(study: Study, again: Remeasured) -> list[str]:
    """What the trainings say that chose nothing."""
    trial, short = f"trial {again.trial.number}", study.base.shortening.describe()
    length = f"at the study's length ({short})" if short else "at full length"
    rows = [[str(objective), *compared(study, again, index)] for index, objective in enumerate(study.objectives)]
    sides = (("the base", again.base), (trial, again.best))
    missing = [f"- {name}: {text}" for name, side in sides for text in side.others]
    return [
        f"Measured again, {length}, with seeds that no trial had ({', '.join(map(str, study.confirm_seeds))}): the "
        "best of many noisy trials looks better than it is; these trainings chose nothing. In brackets the "
        f"{LEVEL:.0%} interval of training once more (Student's and Welch's t).",
        "",
        *table(("Objective", "Base", trial, "Difference", ""), [list(map(escape, row)) for row in rows]),
        *(["", *map(escape, missing)] if missing else []),
    ]


def compared(study: Study, again: Remeasured, index: int) -> list[str]:
    """Of an objective: the base, the trial, the difference with its interval, and what that says."""
    objective, seeds = study.objectives[index], len(study.confirm_seeds)
    sides = [side.values[index] for side in (again.base, again.best)]
    texts = [over_runs(values, seeds, decimals=objective.decimals(values[0]) if values else 0) for values in sides]
    interval = difference(again, index)
    if interval is None:
        return [*texts, ABSENT, f"fewer than {MEASURED} seeds of one say nothing"]
    digits = objective.decimals(sides[0][0])
    apart, low, high = (f"{value:+.{digits}f}" for value in (interval.difference, interval.low, interval.high))
    return [*texts, f"{apart} [{low}, {high}]", verdict(objective, interval)]


def _searched(study: Study, found: Sequence[Trial]) -> list[str]:
    best = front(study, found)
    rows = []
    for dimension in study.space:
        base = written(getattr(study.base.recipe, dimension.field))
        reached = ", ".join(written(trial.params[dimension.field]) for trial in best) or ABSENT
        rows.append([dimension.field, base, str(dimension), reached])
    columns = ("Field", "Base", "Searched", "Best")
    return ["## What was searched", "", *table(columns, [list(map(escape, row)) for row in rows]), ""]


def _figures(study: Study, found: Sequence[Trial]) -> Figures:
    drawn = {}
    several = len(study.objectives) > 1
    for index, objective in enumerate(study.objectives if finished(found) else ()):
        end = f"-{index + 1}" if several else ""
        drawn[f"{PLOTS}/history{end}.svg"] = (f"{objective.metric} by trial", history(study, found, index))
        drawn[f"{PLOTS}/fields{end}.svg"] = (f"{objective.metric} by field", by_field(study, found, index))
        if index:
            title = f"{study.objectives[0].metric} against {objective.metric}"
            drawn[f"{PLOTS}/tradeoff{end}.svg"] = (title, tradeoff(study, found, index))
    ways = [(trial, way) for trial in found if (way := on_the_way(study, trial.paths))]
    if ways:
        title = f"{study.objectives[0].metric} on the way"
        drawn[f"{PLOTS}/curves.svg"] = (title, curves(study, ways, front(study, found)))
    return drawn


def _importance(study: Study, found: Sequence[Trial]) -> list[str]:
    """What each field matters, or why that is not said."""
    if len(study.space) < 2:
        return []
    if why := silence(study, found):
        return ["## What mattered", "", why, ""]
    rows = [[escape(name), f"{share:.0%}"] for name, share in importances(study, found).items()]
    text = (
        f"Share of the scatter of {escape(study.objectives[0].metric)} over what was searched (fANOVA of the finished "
        "trials, which lie more densely where they were good)."
    )
    return ["## What mattered", "", text, "", *table(("Field", "Share"), rows), ""]


def _trials(study: Study, found: Sequence[Trial], rows: dict[str, RunStatus], run_root: str) -> ResultTable:
    """Every trial, with links to what its run has recorded."""
    fields = [dimension.field for dimension in study.space]
    metrics = [objective.metric for objective in study.objectives]
    shown = []
    for trial in found:
        values = [o.shown(v) for o, v in zip(study.objectives, trial.values or (), strict=False)]
        row = rows.get(str(trial.paths.folder))
        cells: tuple[TableCell, ...] = (
            str(trial.number),
            *(written(trial.params[name]) for name in fields),
            *(values or [ABSENT] * len(metrics)),
            _fate(trial),
            f"{row.gpu_hours:.2f}" if row else ABSENT,
            (Link(text="config", target=target(f"{study.name}/{trial.paths.folder.name}/config.json", run_root)),),
            (Link(text="log", target=target(f"{study.name}/{trial.paths.folder.name}/log.json", run_root)),),
        )
        shown.append(TableRow(name=f"trial {trial.number}", cells=cells, marks=()))
    columns = ("Trial", *fields, *metrics, "State", "GPU-hours", *LINKED)
    return ResultTable(title="Trials", columns=columns, rows=tuple(shown))


def _fate(trial: Trial) -> str:
    """Its state and why; a pruned trial's reason says both."""
    state = STATES[trial.state]
    if trial.reason.startswith(state):
        return trial.reason
    return f"{state}: {trial.reason}" if trial.reason else state


def _further(study: Study, settings: Settings) -> list[str]:
    file, url = typed_path(study.path), storage_url(study, settings)
    if url.startswith(SQLITE):
        url = SQLITE + typed_path(Path(url.removeprefix(SQLITE)))
    return [
        f"[{SHEETS}/trials.csv]({SHEETS}/trials.csv) has the trials as CSV. `optuna-dashboard {url}` shows more of "
        f"them, `harness tune {file} --best FILE` writes the best one as a matrix file at full length (`--trial N` "
        "another one).",
        "",
        f"Generated by `harness tune {file} --report`.",
    ]
