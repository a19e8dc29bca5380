"""show, submit: a matrix file and its runs."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from harness.cli.output import Json, print_json, print_note, print_table
from harness.wording import count

if TYPE_CHECKING:
    from harness.launching.prepare import PreparedRun
    from harness.matrix import Experiment
    from harness.recipe import Recipe
    from harness.settings import Settings

ExperimentFile = Annotated[
    Path, typer.Argument(metavar="EXPERIMENT", help="A matrix file, such as experiments/zoo.yaml.")
]

PublishedCheckpoints = Annotated[
    bool,
    typer.Option(
        "--published-checkpoints", help="Of its published cells: test the published checkpoints instead of training."
    ),
]

Pilot = Annotated[
    bool, typer.Option("--pilot", help="Short runs instead, one for each kind of cell, that measure what cells take.")
]

Budget = Annotated[
    float | None, typer.Option(metavar="GPU_HOURS", min=0, help="Refuse to start what takes more GPU-hours.")
]

Recode = Annotated[
    bool, typer.Option("--recode", help="Give runs that began with another code, and do not run now, this one.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (show, submit):
        app.command()(command)


def load(path: Path, *, published: bool = False) -> "Experiment":
    """The experiment of a matrix file, or one of those that come with the package by its bare name.

    published: instead, the experiment that tests the published checkpoints of its published cells.
    Raises UserError also where the file declares a study.
    """
    from harness.errors import UserError
    from harness.matrix import load_experiment
    from harness.shipped import find_experiment
    from harness.tuning.study_file import is_study

    file = find_experiment(path)
    try:
        loaded = load_experiment(file)
    except UserError:
        if is_study(file):
            raise UserError(f"{path} declares a study, no matrix: harness tune {path} (--status, --cancel)") from None
        raise
    if not published:
        return loaded
    from harness.launching.published import published_experiment

    return published_experiment(loaded)


def experiment_name(path: Path, *, published: bool = False) -> str:
    """The name below which the runs of a matrix file, or of a study, are kept."""
    from harness.shipped import find_experiment
    from harness.tuning.study_file import is_study, load_study

    file = find_experiment(path)
    return load_study(file).name if is_study(file) else load(path, published=published).name


def show(
    cell: Annotated[str | None, typer.Argument(help="A cell's name.")] = None,
    diff: Annotated[str | None, typer.Option(metavar="CELL", help="Show only what differs from this cell.")] = None,
    experiment: Annotated[Path | None, typer.Option(help="Resolve the names in this matrix file.")] = None,
    rules: Annotated[bool, typer.Option("--rules", help="Print the rules that derive recipes from axes.")] = False,
    json: Json = False,
) -> None:
    """Show every number of a cell's recipe, or what differs between two cells."""
    if rules:
        from harness.axes import RULES

        print(RULES, end="")
        return
    if cell is None:
        raise typer.BadParameter("name a cell, or ask for --rules")
    recipe, facts = _recipe(cell, experiment)
    if diff is not None:
        _show_diff(cell, recipe, diff, _recipe(diff, experiment)[0], json=json)
        return
    if json:
        from harness.recipe import to_dict

        print_json(facts | {"recipe": to_dict(recipe)})
        return
    _show_recipe(recipe, facts)


def _recipe(name: str, experiment: Path | None) -> "tuple[Recipe, dict[str, Any]]":
    """The recipe of a name, as it would be executed, and what is to be said of it."""
    from harness.cell import parse_name

    if experiment is not None:
        entry = load(experiment).find(name)
        facts = {"cell": entry.name, "published": entry.cell.published, "axes": entry.cell.point}
        return entry.executed, facts | {"shortened": entry.shortening.describe()}
    cell = parse_name(name)
    return cell.recipe(), {"cell": cell.name, "published": cell.published, "axes": cell.point, "shortened": ""}


def _show_recipe(recipe: "Recipe", facts: dict[str, Any]) -> None:
    from dataclasses import fields

    kind = "published recipe" if facts["published"] else "derived by the rules (harness show --rules)"
    print(f"{facts['cell']}: {kind}" + (f", shortened ({facts['shortened']})" if facts["shortened"] else ""))
    section = ""
    for entry in fields(recipe):
        if entry.metadata["section"] != section:
            section = entry.metadata["section"]
            print(f"\n[{section}]")
        print(f"  {entry.name:<20} {_shown(getattr(recipe, entry.name)):<34} {entry.metadata['text']}".rstrip())


def _show_diff(one: str, recipe: "Recipe", other: str, second: "Recipe", *, json: bool) -> None:
    from harness.recipe import diff

    changed = diff(recipe, second)
    if json:
        print_json({name: {one: a, other: b} for name, (a, b) in changed.items()})
        return
    print_table(("field", one, other), [(name, _shown(a), _shown(b)) for name, (a, b) in changed.items()])
    if not changed:
        print("no field differs")


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_shown(part) for part in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def submit(
    experiment: ExperimentFile,
    cluster: Annotated[str | None, typer.Option(help="Where to run it (default: the setting `cluster`).")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the runs until all have ended.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print a cluster's scripts and sbatch commands; submit nothing.")
    ] = False,
    recode: Recode = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try again what failed, with what it lacked, and say what that is.")
    ] = False,
    published_checkpoints: PublishedCheckpoints = False,
    pilot: Pilot = False,
    budget: Budget = None,
    then_report: Annotated[
        bool, typer.Option("--then-report", help="When all have ended, benchmark what has finished, and report.")
    ] = False,
    json: Json = False,
) -> None:
    """Start every run of a matrix file that is not finished and has not failed; returns at once."""
    from dataclasses import replace
    from functools import partial

    from harness.cli.submitting import find_doubts, follow_with_report, show_decisions, show_scripts
    from harness.launching.decide import Action
    from harness.launching.submit import submit as submit_runs
    from harness.node_check import cannot_go_on
    from harness.settings import load_settings
    from harness.tracking.repair import repair

    if pilot and (then_report or published_checkpoints):
        raise typer.BadParameter("--pilot measures trainings: no report and no published checkpoint goes with it")
    settings = load_settings()
    settings = replace(settings, cluster=cluster) if cluster else settings
    loaded = load(experiment, published=published_checkpoints)
    loaded = pilots(loaded, settings) if pilot else loaded
    typed = as_typed(experiment, published_checkpoints, pilot)
    if dry_run and json:
        raise typer.BadParameter("--dry-run prints scripts: leave --json out (harness plan --json shows the runs)")
    if dry_run:
        show_scripts(loaded, settings, typed, recode=recode, retry=retry, then_report=then_report)
        return
    if doubt := cannot_go_on(settings):
        print_note(doubt)
    doubts: list[str] = []
    approve = partial(find_doubts, loaded, settings, typed, budget, doubts)
    decisions = submit_runs(loaded, settings, recode=recode, retry=retry, approve=approve)
    show_decisions(decisions, typed, json=json)
    for text in doubts:
        print_note(text)
    if then_report:
        follow_with_report(loaded, settings, decisions)
    if wait:
        runs = [decision.run for decision in decisions if decision.action != Action.LATER]
        follow(runs, settings, typed, to=sys.stderr if json else None, all_of=len(decisions))
    elif not json:
        print(f"\nnow run: harness status {typed}, and {conclusion(typed)} when it has finished")
    repair([decision.run.paths for decision in decisions], settings.tracking_uri, print_note)


def pilots(loaded: "Experiment", settings: "Settings") -> "Experiment":
    """The pilots of an experiment."""
    from harness.planning.pilot import pilot_experiment

    return pilot_experiment(loaded, settings)


def as_typed(experiment: Path, published: bool, pilot: bool = False) -> str:
    """The experiment as further commands name it."""
    typed = shlex.quote(str(experiment))
    return f"{typed}{' --published-checkpoints' if published else ''}{' --pilot' if pilot else ''}"


def conclusion(experiment: str) -> str:
    """The command that shows what came out of an experiment as it was typed: of pilots, the plan with their times."""
    plain = experiment.removesuffix(" --pilot")
    return f"harness report {experiment}" if plain == experiment else f"harness plan {plain}"


def follow(
    runs: "list[PreparedRun]",
    settings: "Settings",
    experiment: str,
    *,
    to: TextIO | None = None,
    all_of: int | None = None,
) -> None:
    """Tell what changes until all runs have ended; the exit code is 1 unless all have finished.

    to: where; None: stdout. all_of: how many there are, of which others were not submitted; None: no others.
    """
    from harness.launching.wait import wait
    from harness.run_state import State

    def changed(run: Any, state: Any) -> None:
        said = f"{run.spec.name} seed {run.spec.seed}: {state.state} {state.progress or state.reason}"
        print(said.rstrip(), file=to, flush=True)

    try:
        states = wait(runs, settings, changed)
    except KeyboardInterrupt:
        print(f"the runs go on without this command; see harness status {experiment}", file=sys.stderr)
        raise typer.Exit(130) from None
    total = all_of or len(states)
    if failed := total - sum(state.state == State.FINISHED for state in states):
        print(f"{count(failed, 'run')} of {total} did not finish; see harness status {experiment}", file=sys.stderr)
        raise typer.Exit(1)
    print(f"all finished; now run: {conclusion(experiment)}", file=to)
