"""benchmark: training memory and frames a second, measured by themselves."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.experiment import load
from harness.cli.output import Json, print_json, print_note, print_table
from harness.wording import count

if TYPE_CHECKING:
    from harness.launching.benchmark import Measured, Target
    from harness.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(benchmark)


def benchmark(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="EXPERIMENT|RUN|CHECKPOINT|CELL...",
            help="Matrix files (.yaml), run folders, checkpoints (.pth), or cells.",
        ),
    ],
    again: Annotated[
        bool,
        typer.Option("--again", help="Of an experiment, measure also what this code has measured on this device."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the table of an experiment (default: reports/NAME-benchmark).")
    ] = None,
    json: Json = False,
) -> None:
    """Measure training memory and frames a second by the published protocol, on one device of this machine."""
    from harness.settings import load_settings

    settings = load_settings()
    found = [_find(word, settings) for word in targets]  # all mistakes before the first measurement
    results: list[Measured] = []
    for name, group in found:
        measured = _measure(group, settings, again=again or name is None)
        results += measured
        if name is not None and any(one.found for one in measured):
            _write(measured, name, output or Path("reports") / f"{name}-benchmark")
    done = [one.found for one in results if one.found]
    if json:
        print_json(done)
    elif done:
        _show(done)
    if len(done) < len(results):
        raise typer.Exit(2)


def _find(word: str, settings: "Settings") -> "tuple[str | None, list[Target]]":
    """The name of an experiment and its cells, or what else is named, without a name."""
    from harness.launching.benchmark import find_cells, find_target
    from harness.shipped import shipped_file

    if Path(word).suffix not in (".yaml", ".yml") and not shipped_file(Path(f"{word}.yaml")).exists():
        return None, [find_target(word, settings)]
    experiment = load(Path(word))
    return experiment.name, find_cells(experiment, settings)


def _measure(group: "list[Target]", settings: "Settings", *, again: bool) -> "list[Measured]":
    """Measure one after the other; what cannot be is told at once, as the next may take long."""
    from harness.launching.benchmark import measure

    measured = []
    for number, target in enumerate(group, 1):
        print(f"{target.spec.name}: {number} of {len(group)}", file=sys.stderr, flush=True)
        measured.append(measure(target, settings, again=again, note=print_note))
        if fault := measured[-1].fault:
            print(f"error: {target.spec.name}: {fault}", file=sys.stderr, flush=True)
    return measured


def _write(measured: "list[Measured]", experiment: str, folder: Path) -> None:
    from harness.launching.benchmark import slug, this_device
    from harness.reporting.benchmark_table import entry, write_table

    entries = [entry(one.spec, one.found, one.fault) for one in measured]
    stem = slug(this_device()["hardware"]["device"])
    print(f"table: {write_table(folder, stem, experiment, entries)}", file=sys.stderr)


def _show(results: list[dict[str, Any]]) -> None:
    from harness.reporting.benchmark_table import states

    rows = [
        (
            result["name"],
            result["precision"],
            f"{result['memory_mb'] / 1024:.1f} ({result['memory_kind']}, {count(result['memory_images'], 'image')})",
            f"{result['fps']:.1f}",
            f"{1000 * result['median_s']:.0f} / {1000 * result['p90_s']:.0f}",
            result["fps_images"],
            f"{result['detections']:.1f}",
            result["weights"][:8] if result["weights"] else "untrained",
        )
        for result in results
    ]
    columns = ("cell", "precision", "Mem (GB)", "fps", "median / p90 (ms)", "images", "detections", "weights")
    print_table(columns, rows)
    print(f"\nbatch 1, the first 5 images left out; {results[0]['hardware']['device']}")
    for text in states(results):
        print(text)
    if results[0]["hardware"]["kind"] == "cpu":
        print("on a CPU: no number for the published tables; Mem is the peak of the process")
