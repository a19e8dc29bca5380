"""What submit says: what it is to start, what may go wrong, what follows."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from harness.cli.output import print_json, print_note, print_table
from harness.wording import count

if TYPE_CHECKING:
    from harness.launching.chain import Chain
    from harness.launching.decide import Decision
    from harness.launching.prepare import PreparedRun
    from harness.matrix import Experiment
    from harness.settings import Settings


def show_scripts(
    loaded: "Experiment", settings: "Settings", typed: str, *, recode: bool, retry: bool, then_report: bool
) -> None:
    """The scripts and commands of a submit and of what follows; that there are none goes to stderr."""
    from harness.launching.chain import commands
    from harness.launching.decide import Action
    from harness.launching.submit import dry_run

    decisions, text = dry_run(loaded, settings, recode=recode, retry=retry)
    texts = [text, commands(_chain(loaded, settings, decisions))] if then_report else [text]
    print("\n".join(filter(None, texts)), end="")
    _say_later(decisions, typed)
    if not text:
        left = Counter(str(entry.state.state) for entry in decisions if entry.action != Action.LATER)
        print_note(f"nothing to submit: {', '.join(f'{number} {state}' for state, number in left.items())}")


def follow_with_report(loaded: "Experiment", settings: "Settings", decisions: "list[Decision]") -> None:
    """Have the benchmark and the report follow, and say how."""
    from harness.launching.chain import lines, start_chain
    from harness.settings import LOCAL
    from harness.tracking.store import database

    if settings.cluster != LOCAL and (file := database(settings.tracking_uri)) is not None:
        print_note(f"the report's job can read {file} on this host alone; an MLflow server answers all of them")
    start_chain(_chain(loaded, settings, decisions), settings)
    for line in lines(settings.run_root, loaded.name):
        print_note(line)


def _chain(loaded: "Experiment", settings: "Settings", decisions: "list[Decision]") -> "Chain":
    from harness.launching.chain import plan_chain
    from harness.planning.cost import find_cluster
    from harness.run_spec import Origin

    options = ["--published-checkpoints"] if loaded.origin == Origin.PUBLISHED else []
    runs = [decision.run for decision in decisions]
    return plan_chain(loaded, runs, options, find_cluster(settings), settings.run_root)


def find_doubts(
    loaded: "Experiment",
    settings: "Settings",
    typed: str,
    budget: float | None,
    doubts: list[str],
    decisions: "list[Decision]",
) -> None:
    """Add to `doubts` what may go wrong with a submit, before anything is started.

    Raises UserError where it takes more than the budget, or certainly finds no room on the disk.
    """
    from harness.planning.bounds import crowded, require_budget, require_room
    from harness.planning.plan import plan_of, unmeasured
    from harness.run_spec import Origin

    plan = plan_of(loaded, settings, decisions)
    if budget is not None:
        require_budget(plan, budget)
    require_room(plan)
    if doubt := crowded(plan):
        doubts.append(doubt)
    if loaded.origin == Origin.TRAINED and (kinds := unmeasured(plan)):
        what = "1 kind of cell has" if kinds == 1 else f"{kinds} kinds of cells have"
        doubts.append(f"{what} had no pilot; what they take is measured by harness submit {typed} --pilot")


def show_decisions(decisions: "list[Decision]", experiment: str, *, json: bool) -> None:
    """What was done with each run, and which are left for later."""
    rows = [_plain(decision) for decision in decisions]
    if json:
        print_json(rows)
    else:
        titles = {"run": "name", "seed": "seed", "was": "state", "now": "action", "job": "job", "": "text"}
        columns = {title: [row[name] for row in rows] for title, name in titles.items()}
        shown = {name: values for name, values in columns.items() if any(values) or name == "seed"}
        print_table(tuple(shown), list(zip(*shown.values(), strict=True)))
        if failed := sum(decision.failed for decision in decisions):
            print(
                f"\n{count(failed, 'run')} failed before and stay so; to try again: harness submit {experiment} --retry"
            )
        _show_other_codes(decisions)
    _say_later(decisions, experiment)


def _say_later(decisions: "list[Decision]", experiment: str) -> None:
    from harness.launching.decide import Action

    if later := [decision for decision in decisions if decision.action == Action.LATER]:
        print_note(f"{count(len(later), 'run')} left for the next harness submit {experiment}: {later[0].text}")


def _plain(decision: "Decision") -> dict[str, Any]:
    from harness.launching.status import NEW

    return {
        "name": decision.run.spec.name,
        "seed": decision.run.spec.seed,
        "state": str(decision.state.state) if decision.state.updated else NEW,
        "action": str(decision.action),
        "job": _job_id(decision.run),
        "text": decision.text,
        "folder": str(decision.run.paths.folder),
        "code": decision.code,
    }


def _show_other_codes(decisions: "list[Decision]") -> None:
    """Which runs do not work with the present code, and what can be done."""
    from harness.launching.frozen_code import present_code
    from harness.run_state import State

    present = present_code()
    others = [entry for entry in decisions if entry.code != present and entry.state.state != State.FINISHED]
    for running, hint in ((True, ""), (False, "; --recode changes that")):
        codes = [entry.code for entry in others if (entry.state.state == State.RUNNING) == running]
        if codes:
            kept = f"the code of the first submit ({', '.join(dict.fromkeys(codes))}), not the present one ({present})"
            print(f"{count(len(codes), 'run')}{' at work' if running else ''}: {kept}{hint}")


def _job_id(run: "PreparedRun") -> str:
    """Of the batch job that has the run, or had it last; "" where none has."""
    from harness.launching.job_file import read_job

    job = read_job(run.paths)
    return job.id or "" if job else ""
