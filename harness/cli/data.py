"""data check, data shapes, data coco, data pack: data sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.output import Json, print_json, print_table
from harness.wording import count, size

if TYPE_CHECKING:
    from harness.data.check import Report
    from harness.data.coco import CocoSplit

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def check(
    name: Annotated[
        str, typer.Argument(metavar="DATASET", help="A data set of harness.toml, or a folder in COCO layout.")
    ],
    fast: Annotated[bool, typer.Option("--fast", help="Do not decode the images.")] = False,
    json: Json = False,
) -> None:
    """Report what is wrong with a data set; exit code 1 where something is."""
    from dataclasses import asdict

    from harness.cli.progress import count_bar
    from harness.data.check import check_split

    reports: dict[str, Report] = {}
    for part, split in zip(("train", "val"), _splits(name), strict=True):
        with count_bar(f"{name} {part}") as progress:
            reports[part] = check_split(split, train=reports.get("train"), decode=not fast, progress=progress)
    errors = sum(report.errors for report in reports.values())
    if json:
        print_json({part: asdict(report) | {"errors": report.errors} for part, report in reports.items()})
    else:
        for part, report in reports.items():
            sizes = f"{count(report.images, 'image')}, {count(report.annotations, 'annotation')}"
            print(f"{part}: {sizes}, {count(report.categories, 'category')}, {count(report.errors, 'error')}")
            rows = [(f.severity, f.kind, f.count, "; ".join(f.offenders)) for f in report.findings]
            print_table(("severity", "finding", "count", "first"), rows) if rows else None
    if errors:
        raise typer.Exit(1)


def _splits(name: str) -> "tuple[CocoSplit, CocoSplit]":
    """Both halves of a data set of harness.toml, or of a folder in COCO layout."""
    from harness.data.layout import find_split
    from harness.errors import UserError
    from harness.settings import dataset_splits, load_settings

    folder, settings = Path(name), load_settings()
    if name in settings.datasets:
        return dataset_splits(settings, name)
    if folder.is_dir():
        return find_split(folder, "train"), find_split(folder, "val")
    if folder.exists() or len(folder.parts) > 1:
        what = "is no folder" if folder.exists() else "no such folder"
        raise UserError(f"{folder}: {what}; name one, or a data set: {', '.join(settings.datasets) or 'none is known'}")
    return dataset_splits(settings, name)


@app.command()
def shapes(
    out: Annotated[Path, typer.Argument(help="Where to put it.")],
    train: Annotated[int, typer.Option(min=1, help="Training images.")] = 400,
    val: Annotated[int, typer.Option(min=1, help="Validation images.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives another set; the same one the same bytes.")] = 0,
    size: Annotated[int, typer.Option(min=32, help="Longest side of the images.")] = 160,
) -> None:
    """Generate a small data set of overlapping shapes in COCO layout."""
    from harness.cli.progress import count_bar
    from harness.data.shapes import generate_shapes

    with count_bar("shapes") as progress:
        made = generate_shapes(out, train=train, val=val, seed=seed, size=size, progress=progress)
    print(f"{out}: {train} training and {val} validation images {'written' if made else 'are there already'}")
    _show_entry("shapes", out)


@app.command()
def coco(
    root: Annotated[Path, typer.Argument(help="Where COCO 2017 is to lie (about 20 GB, twice that meanwhile).")],
) -> None:
    """Download and verify COCO 2017, going on where an earlier call stopped."""
    from harness.cli.progress import share_on_terminal
    from harness.data.fetch import fetch_coco

    filled = fetch_coco(root, progress=share_on_terminal)
    print(f"{root}: {'filled ' + ', '.join(filled) if filled else 'complete already'}")
    _show_entry("coco2017", root)


def _show_entry(name: str, root: Path) -> None:
    """What harness.toml lacks, if it does not know the data set."""
    from harness.settings import load_settings

    known = load_settings().datasets.get(name)
    if known is None or known.root.resolve() != root.resolve():
        print(f"now name it in harness.toml:\n\n[datasets.{name}]\nroot = {str(root)!r}")


@app.command()
def pack(
    name: Annotated[str, typer.Argument(metavar="DATASET", help="A data set of harness.toml, or a folder of images.")],
) -> None:
    """Put the images of each folder into one tar beside it, which is read instead: kind to shared disks."""
    from harness.cli.progress import count_bar
    from harness.data.tar import pack

    for place in _image_folders(name):
        with count_bar(str(place)) as progress:
            packed = pack(place, progress=progress)
        made = f"sha256 {packed.sha256}" if packed.sha256 else "is there already"
        print(f"{packed.path}: {count(packed.files, 'file')}, {size(packed.size)}, {made}")
    if lines := _naming_tars(name):
        print("harness.toml names folders, which are read as they are; for the tars, set there:", "", *lines, sep="\n")


def _naming_tars(name: str) -> list[str]:
    """The lines of harness.toml with which a data set is read from its tars, where it names folders."""
    from harness.data.image_files import is_packed
    from harness.data.tar import SUFFIX
    from harness.settings import load_settings

    known = load_settings().datasets.get(name)
    named = {} if known is None else {"train_images": known.train_images, "val_images": known.val_images}
    lines = [f"{key} = '{Path(at)}{SUFFIX}'" for key, at in named.items() if at and not is_packed(Path(at))]
    return [f"[datasets.{name}]", *lines] if lines else []


def _image_folders(name: str) -> list[Path]:
    """Those of a data set; or the folder of this name, unless it is a data set's in COCO layout."""
    from harness.data.image_files import is_packed
    from harness.settings import load_settings

    folder = Path(name)
    if name not in load_settings().datasets and folder.is_dir() and not (folder / "annotations").is_dir():
        return [folder if folder.name not in ("", "..") else folder.resolve()]
    places = {split.images for split in _splits(name)}
    return sorted(place.with_suffix("") if is_packed(place) else place for place in places)
