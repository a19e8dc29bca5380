"""status, logs, wait, cancel, clean: what becomes of runs, and what they leave behind."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.experiment import (
    ExperimentFile,
    Pilot,
    PublishedCheckpoints,
    as_typed,
    experiment_name,
    follow,
    load,
    pilots,
)
from harness.cli.output import Json, print_json, print_note, print_table
from harness.wording import count

if TYPE_CHECKING:
    from harness.launching.choose import FoundRun
    from harness.launching.clean import Leftover
    from harness.launching.status import RunStatus
    from harness.matrix import Experiment
    from harness.settings import Settings

WATCH_SECONDS = 5.0
"""Between two looks: the controller of a cluster has others to answer."""
CELL = "A cell's name, or a pattern."


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (status, logs, wait, cancel, clean):
        app.command()(command)


def status(
    experiment: ExperimentFile,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every few seconds, until all have ended.")] = False,
    published_checkpoints: PublishedCheckpoints = False,
    pilot: Pilot = False,
    json: Json = False,
) -> None:
    """Show where every run of a matrix file stands: its state and why, how far it is, what it takes."""
    from harness.cli.status_table import closing, table
    from harness.launching.chain import lines
    from harness.launching.ends import warning
    from harness.launching.status import status_rows
    from harness.run_paths import experiment_runs
    from harness.settings import load_settings
    from harness.tracking.repair import repair

    if watch and json:
        raise typer.BadParameter("--watch is for people; ask with --json again and again instead")
    settings = load_settings()
    loaded = _load(experiment, settings, published=published_checkpoints, pilot=pilot)
    typed = as_typed(experiment, published_checkpoints, pilot)
    if watch:
        _watch(lambda: status_rows(loaded, settings), typed)
    rows = status_rows(loaded, settings)
    if json:
        print_json([asdict(row) for row in rows])
    else:
        print("\n".join([*table(rows, _width()), *filter(None, [warning(settings.run_root)]), *closing(rows, typed)]))
        for line in _patiently(lines(settings.run_root, loaded.name)):
            print(line)
    repair(experiment_runs(settings.run_root, loaded.name), settings.tracking_uri, print_note)


def _patiently(told: Iterator[str]) -> Iterator[str]:
    """Those lines, and why there are no more where a cluster does not answer."""
    from harness.errors import UserError

    try:
        yield from told
    except UserError as error:
        yield str(error)


def _load(path: Path, settings: "Settings", *, published: bool, pilot: bool) -> "Experiment":
    loaded = load(path, published=published)
    return pilots(loaded, settings) if pilot else loaded


def _width() -> int | None:
    """Of the terminal; None where nobody looks."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else None


def _watch(look: "Callable[[], list[RunStatus]]", experiment: str) -> None:
    """Show what is found again and again, until all runs have ended or somebody presses Ctrl-C."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from harness.cli.status_table import closing, table

    console = Console()
    if not console.is_terminal:
        _follow(look)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        rows = look()
        while not all(row.ended for row in rows):
            last = closing(rows, experiment)
            shown = _shown(rows, console.width, console.height - len(last) - 3)
            more = [f"... and {len(rows) - len(shown)} more"] if len(shown) < len(rows) else []
            lines = [*table(shown, console.width), *more, *last, time.strftime("%H:%M:%S; Ctrl-C leaves")]
            live.update(Text("\n".join(lines), no_wrap=True, overflow="crop"), refresh=True)
            time.sleep(WATCH_SECONDS)
            rows = look()


def _follow(look: "Callable[[], list[RunStatus]]") -> None:
    """The same for a file or a pipe: the table once more whenever it has changed."""
    from harness.cli.status_table import table

    before: list[str] = []
    rows = look()
    while not all(row.ended for row in rows):
        if (lines := table(rows, None)) != before:
            print("\n".join([*lines, time.strftime("%H:%M:%S"), ""]), flush=True)
            before = lines
        time.sleep(WATCH_SECONDS)
        rows = look()


def _shown(rows: "list[RunStatus]", width: int, room: int) -> "list[RunStatus]":
    """The rows whose table has at most so many lines, what is said below it included; one at least."""
    from harness.cli.status_table import table, urgent

    number = min(len(rows), max(1, room))
    while number > 1 and len(table(urgent(rows, number), width)) > room:
        number = max(1, number * 3 // 4)
    return urgent(rows, number)


def logs(
    words: Annotated[
        list[str],
        typer.Argument(metavar="[EXPERIMENT] CELL", help=f"A matrix file, if need be. {CELL} Or a run's folder."),
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Of several runs of the cell, that with this seed.")] = None,
    attempt: Annotated[int | None, typer.Option(min=1, help="Another attempt than the last one.")] = None,
) -> None:
    """Show what the last attempt of a run has written to its output."""
    from harness.launching import output
    from harness.settings import load_settings

    if len(words) > 2 or (follow and attempt is not None):
        raise typer.BadParameter("give one cell, after the experiment if need be, and either --follow or --attempt")
    run = _one_run(words, seed, load_settings())

    def say(text: bytes) -> None:
        sys.stdout.buffer.write(text)
        sys.stdout.flush()

    if not follow:
        file = output.find(run.paths, attempt)
        print_note(f"{run}: {file}")
        output.pass_on(file, 0, say)
        return
    try:
        state = output.follow(run.paths, say, print_note)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    print_note(f"{run}: {state.state}{f', {state.reason}' if state.reason else ''}")


def _one_run(words: list[str], seed: int | None, settings: "Settings") -> "FoundRun":
    """The run that the words name: a folder, or a cell, of an experiment or of any."""
    from harness.launching.choose import chosen, found_run, found_runs, only

    if len(words) == 1 and (Path(words[0]) / "run.json").is_file():
        return found_run(Path(words[0]).absolute())
    experiment = experiment_name(Path(words[0])) if len(words) == 2 else None
    found = chosen(found_runs(settings.run_root, experiment), words[-1:], seed)
    # What harness benchmark measured is a run of the same name, without a word of its own.
    return only([run for run in found if (run.paths.folder / "attempts").exists()] or found)


def wait(experiment: ExperimentFile, published_checkpoints: PublishedCheckpoints = False, pilot: Pilot = False) -> None:
    """Wait until every run of a matrix file has ended; the exit code is 0 where all have finished, else 1."""
    from harness.launching.prepare import PreparedRun
    from harness.launching.status import BROKEN, NEW, status_rows
    from harness.run_paths import RunPaths
    from harness.run_spec import read_spec
    from harness.settings import load_settings

    settings = load_settings()
    loaded = _load(experiment, settings, published=published_checkpoints, pilot=pilot)
    typed = as_typed(experiment, published_checkpoints, pilot)
    rows = status_rows(loaded, settings)[: len(loaded.cells) * len(loaded.seeds)]
    paths = [RunPaths(Path(row.folder)) for row in rows if row.state not in (NEW, BROKEN)]
    if paths:
        follow([PreparedRun(spec=read_spec(each), paths=each) for each in paths], settings, typed)
    if missing := len(rows) - len(paths):
        print(f"{count(missing, 'run')} of {len(rows)} cannot finish, see harness status {typed}", file=sys.stderr)
        raise typer.Exit(1)


def cancel(
    experiment: ExperimentFile,
    cells: Annotated[list[str] | None, typer.Argument(metavar="[CELL]...", help=f"{CELL} Default: all.")] = None,
    published_checkpoints: PublishedCheckpoints = False,
    pilot: Pilot = False,
) -> None:
    """Take runs out of the queue, and have those that work save and leave; they stay so until the next submit."""
    from harness.launching.cancel import cancel as cancel_runs
    from harness.launching.cancel import cancel_chain
    from harness.launching.choose import chosen, found_runs
    from harness.launching.local_queue import Home
    from harness.settings import load_settings

    settings = load_settings()
    loaded = _load(experiment, settings, published=published_checkpoints, pilot=pilot)
    runs = chosen(found_runs(settings.run_root, loaded.name), cells or [])
    done = cancel_runs([run.paths for run in runs], Home(settings.run_root))
    rows = [(str(run), text) for run, text in zip(runs, done, strict=True) if text]
    if not cells:
        rows += cancel_chain(settings.run_root, loaded.name)
    if not rows:
        print("nothing to cancel: none of these runs waits or works")
        return
    print_table(("what", "done"), rows)
    typed = as_typed(experiment, published_checkpoints, pilot)
    print(f"\nnow run: harness status {typed}; harness submit {typed} goes on from the checkpoints")


def clean(
    experiment: Annotated[
        Path | None,
        typer.Argument(metavar="[EXPERIMENT]", help="A matrix file: finished runs that it no longer contains, too."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is listed.")] = False,
    reports: Annotated[Path, typer.Option(help="Folder below which reports lie: what they name is kept.")] = Path(
        "reports"
    ),
    published: Annotated[Path, typer.Option(help="Folder of what was published.")] = Path("published"),
    published_checkpoints: PublishedCheckpoints = False,
    json: Json = False,
) -> None:
    """List, and with --yes remove, what no manifest, report or unfinished run refers to."""
    from harness.launching.clean import leftovers, remove
    from harness.launching.local_queue import Home
    from harness.leases import holding
    from harness.settings import load_settings
    from harness.wording import size

    settings = load_settings()
    loaded = load(experiment, published=published_checkpoints) if experiment else None
    alone = holding(Home(settings.run_root).enqueueing, patience=150) if yes else nullcontext()
    with alone:  # nothing is submitted meanwhile
        found = leftovers(loaded, settings, reports, published)
        if yes:
            remove(found, settings.run_root)
    if json:
        print_json([asdict(entry) for entry in found])
        return
    if not found:
        print("nothing to remove")
        return
    print_table(("", "what", "size"), [(entry.path, entry.what, size(entry.size)) for entry in found])
    total = f"{count(len(found), 'entry')}, {size(_total(found))}"
    typed = f" {as_typed(experiment, published_checkpoints)}" if experiment else ""
    print(f"\nremoved: {total}" if yes else f"\n{total}; nothing is removed yet: harness clean{typed} --yes")


def _total(found: "list[Leftover]") -> int:
    return sum(entry.size for entry in found)
