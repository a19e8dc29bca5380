"""compare: whether results differ."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.output import Json, print_json, print_note, print_table
from harness.wording import count

if TYPE_CHECKING:
    from harness.comparing.gate import Rates, Verdict
    from harness.comparing.results import Result
    from harness.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(compare)


def compare(
    sides: Annotated[
        list[str],
        typer.Argument(
            metavar="A B...", help="Run folders, cells ([EXPERIMENT/]CELL), checkpoints (.pth) or detections."
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            metavar="published|RUNS",
            help="Hold the AP of A B..., here also matrix files and records.json, against published rows or such runs.",
        ),
    ] = None,
    fail_on_drop: Annotated[
        bool,
        typer.Option("--fail-on-drop", help="With --against: exit code 1 where an AP has dropped or a cell failed."),
    ] = False,
    output: Annotated[Path | None, typer.Option(help="Folder for a page with pictures of what changed.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="Annotations, of files that are in no run's folder.")] = None,
    images: Annotated[Path | None, typer.Option(help="Images, of files that are in no run's folder.")] = None,
    json: Json = False,
) -> None:
    """Say whether results differ: in recipe and AP, over images and over seeds; or whether AP has dropped."""
    from harness.settings import load_settings

    settings = load_settings()
    if against is not None:
        _gate(sides, against, settings, fail_on_drop=fail_on_drop, json=json)
        return
    if fail_on_drop:
        raise typer.BadParameter("--fail-on-drop needs --against published|RUNS")
    if len(sides) < 2:
        raise typer.BadParameter("name at least two to compare, or --against published|RUNS")
    if matrices := [text for text in sides if text.endswith((".yaml", ".yml"))]:
        raise typer.BadParameter(f"{matrices[0]}: name one cell of it, or hold all of them --against published|RUNS")
    from harness.comparing.compare import compare as compare_sides
    from harness.comparing.sides import find_side

    kept = settings.cache_root / "detections"
    found = [find_side(text, settings.run_root, annotations=annotations, images=images, cache=kept) for text in sides]
    pairs = compare_sides(found)
    if json:
        print_json([asdict(pair) for pair in pairs])
    else:
        for pair in pairs:
            _show(pair)
    if output is not None:
        from harness.comparing.page import write_page

        page = write_page(output, pairs, found)
        print_note(f"page: {page}") if json else print(f"page: {page}")
    elif not json:
        print("now run: the same with --output FOLDER, for a page with the images that changed most")


def _show(pair: Any) -> None:
    from harness.comparing.page import HEADER, MOVERS_HEADER, movers_of, notes, table_of

    print(f"first: {pair.first}\nother: {pair.other}\n")
    if pair.recipe:
        print_table(("field", "first", "other"), [(name, *values) for name, values in pair.recipe.items()])
    else:
        print("no field of the recipes differs")
    print()
    print_table(HEADER, table_of(pair))
    print()
    for text in notes(pair):
        print(f"- {text}")
    print()
    print_table(MOVERS_HEADER, movers_of(pair))
    print()


def _gate(sides: list[str], against: str, settings: "Settings", *, fail_on_drop: bool, json: bool) -> None:
    from harness.comparing.gate import judge, rates
    from harness.comparing.results import PUBLISHED, against_published, against_results
    from harness.errors import UserError

    results = [result for text in sides for result in _results(text, settings)]
    if against == PUBLISHED:
        numbers, left_out = against_published(results)
    else:
        numbers, left_out = against_results(results, _results(against, settings))
    for line in left_out:
        print_note(f"left out: {line}")
    if not numbers:
        raise UserError(f"nothing of {', '.join(sides)} can be held against {against}")
    verdicts = judge(numbers)
    tables = dict.fromkeys(number.table for number in numbers)
    simulated = {table: rates([number for number in numbers if number.table == table]) for table in tables}
    if json:
        print_json({"verdicts": [asdict(v) for v in verdicts], "rates": {t: asdict(r) for t, r in simulated.items()}})
    else:
        for table in tables:
            _show_table(table, [v for v in verdicts if v.number.table == table], simulated[table])
    failed = [run for run in results if run.failed]
    if failed:
        print_note(f"{count(len(failed), 'run')} of these cells failed: that counts as a drop")
    if fail_on_drop and (failed or any(verdict.dropped for verdict in verdicts)):
        raise typer.Exit(1)


def _results(text: str, settings: "Settings") -> "list[Result]":
    """The results that a word of the command line names."""
    from harness.comparing.results import of_experiment, of_records, of_run
    from harness.comparing.sides import find_trainings
    from harness.shipped import find_experiment

    if text.endswith((".yaml", ".yml")):
        return of_experiment(find_experiment(Path(text)), settings.tracking_uri)
    if text.endswith(".json"):
        return of_records(Path(text))
    found = find_trainings(text, settings.run_root)
    return [of_run(paths, found.missing) for paths in found.runs]


def _show_table(table: str, verdicts: "list[Verdict]", rates: "Rates") -> None:
    from harness.comparing.gate import DROPS
    from harness.intervals import PRIOR

    header = ("row", "metric", "now", "before", "difference", "chance", "")
    print(f"{table}\n")
    print_table(header, [_row(verdict) for verdict in verdicts])
    missed = ", ".join(f"{drop} AP {rate:.0%}" for drop, rate in zip(DROPS, rates.missed, strict=True))
    print(
        f"\nchance: of a drop this large by seeds alone (standard deviation {PRIOR} AP where fewer than 3 seeds tell "
        f"it); dropped: Holm over the {len(verdicts)} numbers of the table, 5 % for all of them\n"
        f"simulated for a table like this, one seed's deviation {PRIOR} AP: false alarms in {rates.false_alarm:.1%} of "
        f"tables; a true drop of one row is missed at {missed}"
    )
    for verdict in verdicts:
        if verdict.too_good:
            print(
                f"warning: {verdict.number.row}: {verdict.number.metric} differs by {verdict.difference:+.1f}: too "
                "good to be chance; is it the right data, and nothing of the test set in training?"
            )
    print()


def _row(verdict: "Verdict") -> tuple[str, ...]:
    from harness.comparing.page import mean_text

    number = verdict.number
    said = "DROPPED" if verdict.dropped else "too good to be true?" if verdict.too_good else ""
    sides = zip((number.now, number.before), number.missing, strict=True)
    means = (mean_text(values, missing) for values, missing in sides)
    return (number.row, number.metric, *means, f"{verdict.difference:+.2f}", f"{verdict.chance:.3f}", said)
