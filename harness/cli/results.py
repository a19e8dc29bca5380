"""evaluate, predict, report, publish, import: what came out."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.experiment import ExperimentFile, PublishedCheckpoints, load
from harness.cli.output import Json, print_json, print_note, print_table
from harness.wording import count

if TYPE_CHECKING:
    from harness.matrix import Experiment
    from harness.published import PublishedRow
    from harness.settings import Settings
    from harness.training.reevaluate import Reevaluation


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (evaluate, predict, report, publish):
        app.command()(command)
    app.command("import")(import_log)


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
    """Repeat the COCO numbers of a checkpoint or of kept detections. A published checkpoint is held against its row."""
    from harness.settings import dataset_split, load_settings
    from harness.training.reevaluate import Verdict, reevaluate
    from harness.training.scorer import plain

    result = reevaluate(
        file,
        annotations=annotations,
        images=images,
        cell=cell,
        find_split=lambda name: dataset_split(load_settings(), name, "val"),
    )
    for doubt in result.doubts:
        print(f"warning: {doubt}", file=sys.stderr)
    if json:
        compared = {"recorded": result.recorded, "verdict": result.verdict.name.lower(), "precision": result.precision}
        print_json(plain(result.evaluation) | compared | _published(result) | {"doubts": list(result.doubts)})
    else:
        _show_evaluation(plain(result.evaluation), result, per_class=per_class)
    if result.verdict in (Verdict.DIFFERENT, Verdict.ALTERED):
        raise typer.Exit(1)


def _show_evaluation(found: dict[str, Any], result: "Reevaluation", *, per_class: bool) -> None:
    numbers, recorded = found["numbers"], result.recorded or {}
    print_table(("metric", "now", "recorded"), [(n, _number(numbers[n]), _number(recorded.get(n))) for n in numbers])
    if per_class:
        print()
        classes = [(c["name"], c["instances"], _number(c["bbox"]), _number(c["segm"])) for c in found["per_class"]]
        print_table(("class", "instances", "box AP", "mask AP"), classes)
    tested = f", tested in {result.precision}" if result.precision else ""
    images = count(result.images, "image")
    shown = images if found["images"] == result.images else f"the first {found['images']} of {images} (shortened)"
    print(f"\n{found['library']}, {shown}{tested}\n")
    if result.published is None:
        print(result.verdict)
    else:
        _show_published(result.published, numbers, images=found["images"])


def _published(result: "Reevaluation") -> dict[str, Any]:
    from dataclasses import asdict

    from harness.published import compare

    row = result.published
    if row is None:
        return {"published": None}
    compared = [asdict(comparison) for comparison in compare(row, result.evaluation.numbers)]
    return {"published": {"cell": row.name, "compared": compared, "known": row.explanations()}}


def _show_published(row: "PublishedRow", numbers: dict[str, Any], *, images: int) -> None:
    from harness.published import VAL_IMAGES, compare

    shown = [
        (c.metric, _percent(c.now), _percent(c.published), _percent(c.difference, "+")) for c in compare(row, numbers)
    ]
    print_table(("AP in percent", "now", "published", "difference"), shown)
    for text in row.explanations():
        print(f"known of this row: {text}")
    if images != VAL_IMAGES:
        print(
            f"the published numbers are of the {VAL_IMAGES} images of COCO 2017 val, these of {count(images, 'image')}"
        )


def _percent(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.1f}"


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
        print(f"{source}: {count(found, 'object')} -> {target}")


class Source(StrEnum):
    """Where the numbers of a report come from."""

    MLFLOW = "mlflow"
    PUBLISHED = "published"


def report(
    experiment: ExperimentFile,
    published_checkpoints: PublishedCheckpoints = False,
    output: Annotated[Path | None, typer.Option(help="Folder (default: reports/NAME).")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether the committed page is what its records give.")
    ] = False,
    source: Annotated[
        Source, typer.Option(help="mlflow: what was measured; published: the published tables, into reports/published.")
    ] = Source.MLFLOW,
    curves: Annotated[
        list[str] | None,
        typer.Option(metavar="CELL", help="Draw this cell's learning curves (repeat; patterns, too); else the best 8."),
    ] = None,
) -> None:
    """Regenerate README.md, index.html, tables, records, manifest and plots of an experiment from MLflow."""
    from harness.settings import load_settings

    if source == Source.PUBLISHED:
        _report_published(
            experiment, output or Path("reports") / "published", unfit=bool(check or published_checkpoints or curves)
        )
        return
    loaded, settings = load(experiment, published=published_checkpoints), load_settings()
    folder = output or Path("reports") / loaded.name
    if check and curves:
        raise typer.BadParameter("--check takes the curves that the report has; leave --curves out")
    if check:
        _check(loaded, folder, _store_at_hand(settings.tracking_uri))
    else:
        _write(loaded, settings, folder, curves or [])


def _write(loaded: "Experiment", settings: "Settings", folder: Path, curves: list[str]) -> None:
    from harness.reporting.page import write_report
    from harness.reporting.tracked_records import from_tracking
    from harness.run_paths import experiment_folder, experiment_runs
    from harness.tracking.repair import repair
    from harness.tracking.store import shown

    uri, root = settings.tracking_uri, settings.run_root
    repair(experiment_runs(root, loaded.name), uri, print_note)
    records = from_tracking(uri, loaded.name, cache=settings.cache_root / "records")
    picture = _finished(sorted(experiment_folder(root, loaded.name).glob("*/predictions/sheet.jpg")))
    server = shown(uri).rstrip("/") if uri.startswith("http") else None
    written = write_report(loaded, records, folder, run_root=root, picture=picture, server=server, curves=curves)
    print(f"report: {written.page}")
    facts = (written.site, written.records, written.manifest, written.index, *written.sheets)
    for path in (*facts, *written.plots, *([written.picture] if written.picture else [])):
        print(f"        {path}")
    print("now run: harness ui, to compare the runs in MLflow")


def _report_published(experiment: Path, folder: Path, *, unfit: bool) -> None:
    from harness.reporting.as_published import write_published_tables

    if unfit:
        raise typer.BadParameter("--source published goes with --output alone")
    print(f"report: {write_published_tables(load(experiment), folder)}")


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
    from harness.reporting.page import command_of

    faults = check_report(loaded, folder, uri=uri)
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        print(f"now run: harness report {command_of(loaded, folder)}", file=sys.stderr)
        raise typer.Exit(1)
    print(f"{folder}: as its records give it")


def publish(
    run: Annotated[str, typer.Argument(metavar="RUN|CELL", help="A run's folder, or a cell with one finished run.")],
    output: Annotated[Path, typer.Option(help="Folder for what is published.")] = Path("published"),
) -> None:
    """Write a finished run in the published form: weights without optimizer, log, config and model card."""
    from harness.launching.publish import find_run
    from harness.launching.publish import publish as write
    from harness.settings import load_settings

    folder = write(find_run(run, load_settings().run_root), output)
    for path in sorted(folder.iterdir()):
        print(path)


def import_log(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="A *.log.json of mmdetection 2.x.")],
    cell: Annotated[str, typer.Option(help="The cell that it is the log of.")],
    checkpoint: Annotated[Path | None, typer.Option(help="The weights that this training left.")] = None,
) -> None:
    """Bring somebody else's training log into MLflow, marked as imported; status then compares with it."""
    from harness.errors import UserError
    from harness.launching.import_log import import_log as read
    from harness.settings import load_settings
    from harness.tracking.shipment import ship
    from harness.tracking.store import absolute

    settings = load_settings()
    absolute(settings.tracking_uri)  # before anything is written
    found = read(log, settings.run_root, cell=cell, checkpoint=checkpoint)
    for doubt in found.doubts:
        print(f"warning: {doubt}", file=sys.stderr)
    kept = f"{len(found.log.of('train'))} train and {count(len(found.log.of('val')), 'val record')}"
    text = f"{kept}, {found.log.repeated} repeated" if found.new else "imported already"
    print(f"{found.paths.folder}: {text}{'; its checkpoint is now recorded' if found.recorded else ''}")
    try:
        shipped = ship(found.paths, settings.tracking_uri)
    except UserError as error:
        raise UserError(f"{error}; the log is kept in {found.paths.folder}; repeat this command to ship it") from None
    print(f"MLflow: {count(shipped.points, 'point') if shipped else 'nothing new'}")
