"""evaluate, predict, report: what came out."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.experiment import ExperimentFile, load
from harness.cli.output import Json, print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (evaluate, predict, report):
        app.command()(command)


def evaluate(
    file: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT|DETECTIONS", help="A .pth, or detections (.json, .json.gz).")
    ],
    annotations: Annotated[
        Path | None, typer.Option(help="Annotations, where the file is not in a run's folder.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Images, for a checkpoint that is not in a run's folder.")] = None,
    cell: Annotated[str | None, typer.Option(help="The cell of a checkpoint that does not say it.")] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="Show every class too.")] = False,
    json: Json = False,
) -> None:
    """Repeat the COCO numbers of a checkpoint or of kept detections."""
    from harness.training.reevaluate import Verdict, reevaluate
    from harness.training.validation import plain

    result = reevaluate(file, annotations=annotations, images=images, cell=cell)
    if json:
        compared = {"recorded": result.recorded, "verdict": result.verdict.name.lower()}
        print_json(plain(result.evaluation) | compared)
    else:
        _show_evaluation(plain(result.evaluation), result.recorded or {}, per_class=per_class)
        print(f"\n{result.verdict}")
    if result.verdict in (Verdict.DIFFERENT, Verdict.ALTERED):
        raise typer.Exit(1)


def _show_evaluation(found: dict[str, Any], recorded: dict[str, Any], *, per_class: bool) -> None:
    numbers = found["numbers"]
    print_table(("metric", "now", "recorded"), [(n, _number(numbers[n]), _number(recorded.get(n))) for n in numbers])
    if per_class:
        print()
        classes = [(c["name"], c["instances"], _number(c["bbox"]), _number(c["segm"])) for c in found["per_class"]]
        print_table(("class", "instances", "box AP", "mask AP"), classes)
    print(f"\n{found['library']}, {found['images']} images")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def predict(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint (.pth).")],
    images: Annotated[list[Path], typer.Argument(help="Photos.")],
    output: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("predictions"),
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Draw detections from this score.")] = 0.5,
    cell: Annotated[str | None, typer.Option(help="The cell of a checkpoint that does not say it.")] = None,
) -> None:
    """Draw masks, boxes, labels and scores onto photos."""
    from harness.training.pictures import predict_images

    for source, target, found in predict_images(checkpoint, images, output, min_score=min_score, cell=cell):
        print(f"{source}: {found} -> {target}")


def report(
    experiment: ExperimentFile,
    output: Annotated[Path | None, typer.Option(help="Folder (default: reports/NAME).")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether the committed page is what its records give.")
    ] = False,
) -> None:
    """Regenerate the tables, records.json, manifest.json and plots of an experiment from MLflow."""
    from harness.settings import load_settings

    loaded, settings = load(experiment), load_settings()
    folder = output or Path("reports") / loaded.name
    if check:
        _check(loaded, folder, _store_at_hand(settings.tracking_uri))
        return
    from harness.reporting.page import write_report
    from harness.reporting.records import from_tracking
    from harness.runs import experiment_folder

    records = from_tracking(settings.tracking_uri, loaded.name)
    pictures = sorted(experiment_folder(settings.run_root, loaded.name).glob("*/predictions/sheet.jpg"))
    written = write_report(loaded, records, folder, run_root=settings.run_root, picture=_finished(pictures))
    print(f"report: {written.page}")
    for path in (written.records, written.manifest, *written.plots, *([written.picture] if written.picture else [])):
        print(f"        {path}")
    print("now run: harness ui, to compare the runs in MLflow")


def _finished(pictures: list[Path]) -> Path | None:
    """The picture of the finished run with the best box AP."""
    from harness.files import read_json

    def box_ap(path: Path) -> float:
        result = path.parent.parent / "result.json"
        value: float | None = read_json(result)["metrics"]["bbox_mAP"] if result.exists() else None
        return -1.0 if value is None else value

    return max(pictures, key=box_ap, default=None)


def _store_at_hand(uri: str) -> str | None:
    """The store, unless it is an SQLite file that is not there (a fresh checkout): the page is then checked alone."""
    from harness.tracking.store import database

    file = database(uri)
    return None if file is not None and not file.exists() else uri


def _check(loaded: Any, folder: Path, uri: str | None) -> None:
    from harness.reporting.check import check_report

    faults = check_report(loaded, folder, uri=uri)
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        print(f"now run: harness report {loaded.path}", file=sys.stderr)
        raise typer.Exit(1)
    print(f"{folder}: as its records give it")
