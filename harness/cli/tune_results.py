"""What comes out of a study: its best trial measured again, its report, the best as a matrix file."""

from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.output import print_note

if TYPE_CHECKING:
    from harness.launching.prepare import PreparedRun
    from harness.run_state import RunState
    from harness.settings import Settings
    from harness.tuning.study_file import Study


def conclude(study: "Study", settings: "Settings") -> None:
    """Measure the best trial and the base again, and write the report."""
    from harness.tuning.best import finished, winner
    from harness.tuning.remeasure import is_base, measure_again, remeasured
    from harness.tuning.report import compared
    from harness.tuning.trials import trials

    found = trials(study, settings)
    if finished(found) and not is_base(study, best := winner(study, found)):
        seeds = ", ".join(map(str, study.confirm_seeds))
        print(f"trial {best.number} is the best; it and the base are measured again with seeds {seeds}", flush=True)
        said: set[str] = set()
        measure_again(study, best, settings, lambda run, state: _say(run, state, said))
        again = remeasured(study, best, settings)
        for index, objective in enumerate(study.objectives):
            base, mine, apart, verdict = compared(study, again, index)
            print(f"measured again, {objective.metric}: base {base}, trial {best.number} {mine}: {apart}, {verdict}")
    if found:
        write_report(study, settings)


def _say(run: "PreparedRun", state: "RunState", said: set[str]) -> None:
    """Where a run stands, if that was not said."""
    reason = f": {state.reason}" if state.reason else ""
    line = f"{run.spec.name} seed {run.spec.seed} {state.state}{reason}"
    if line not in said:
        said.add(line)
        print(line, flush=True)


def write_report(study: "Study", settings: "Settings") -> None:
    """Write reports/NAME."""
    from harness.tuning.report import write_study_report

    print(f"report: {write_study_report(study, settings, Path('reports') / study.name)}")


def write_best(study: "Study", settings: "Settings", output: Path, number: int | None) -> None:
    """Write a trial, or the best one, as a matrix file, and say what it reached."""
    from harness.tuning.best import front, scores, winner, write_matrix
    from harness.tuning.trials import trials

    found = trials(study, settings)
    chosen = winner(study, found, number)
    write_matrix(study, chosen, output)
    print(f"{output}: trial {chosen.number}, {scores(study, chosen.values or ())}")
    others = [f"trial {trial.number} ({scores(study, trial.values or ())})" for trial in front(study, found)[1:]]
    if number is None and others:
        print_note(f"the best by {study.objectives[0].metric}; also beaten by none: {', '.join(others)}; --trial N")
    print(f"now run: harness plan {output}")
