"""A report: README.md, index.html, its tables as CSV, records.json, manifest.json, model-index.yml and plots.

All is made of records and the matrix file.
"""

import os
import shlex
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path, PurePath

from harness.errors import UserError
from harness.files import replacing, write_text
from harness.imported import published_curve
from harness.matrix import Experiment
from harness.reporting.command import report_command, verify_command
from harness.reporting.comparison import MEASURED, checkpoint_tables, measured_table
from harness.reporting.figures import PLOTS, Figures, figures
from harness.reporting.figures import files as figure_files
from harness.reporting.html_page import index_html
from harness.reporting.learning import check_choice
from harness.reporting.manifest import MANIFEST, manifest
from harness.reporting.manifest import to_json as manifest_json
from harness.reporting.markdown import escape, result_table, table
from harness.reporting.model_index import INDEX, model_index, models
from harness.reporting.pictures import read_pictures, shrink_pictures
from harness.reporting.protocol import protocol
from harness.reporting.records import EpochAP, Record, Snapshot, ordered, relative_to, to_json
from harness.reporting.rows import OtherRun, Row, match
from harness.reporting.sheets import SHEETS, sheets
from harness.reporting.site import SITE, Site
from harness.reporting.tables import ResultTable, result_tables
from harness.run_spec import Origin
from harness.wording import count, percent

PAGE, RECORDS = "README.md", "records.json"
GENERATED = {PLOTS: "*.svg", SHEETS: "*.csv"}
"""Folders of a report that hold nothing else than what it generates."""
BEGIN = "<!-- harness report: begin; what stands between these two markers is generated -->"
END = "<!-- harness report: end -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPaths:
    """The files of a report."""

    page: Path
    records: Path
    manifest: Path
    index: Path
    site: Path
    plots: tuple[Path, ...]
    sheets: tuple[Path, ...]
    picture: Path | None


def write_report(
    experiment: Experiment,
    records: Iterable[Record],
    output: Path,
    *,
    run_root: Path | None = None,
    picture: Path | None = None,
    server: str | None = None,
    curves: Sequence[str] = (),
) -> ReportPaths:
    """Write the report of an experiment into the folder `output`; the same records give the same bytes.

    run_root: the folder of the runs; paths below it are written relative to it, and it relative to `output`. picture:
    a sample prediction, copied into `output`. server: the address of MLflow's pages. curves: names or patterns of the
    cells whose learning curves are drawn. Text of an existing README.md outside the generated markers is kept.
    Raises UserError where those markers are broken, rows of a table cannot be told apart, or `curves` fit no cell.
    """
    snapshot = Snapshot(
        experiment=experiment.name,
        matrix=command_of(experiment, output),
        run_root=_relative(run_root, output) if run_root else None,
        picture=f"sample{picture.suffix}" if picture else None,
        server=server,
        curves=tuple(curves),
        published=_published_curves(experiment, run_root) if run_root else {},
        records=ordered(relative_to(records, run_root) if run_root else records),
    )
    rows, _ = match(experiment, snapshot.records)
    check_choice(rows, curves)
    if run_root:
        shrink_pictures(rows, run_root, output)
    files = render(experiment, snapshot, output)
    if picture and snapshot.picture:
        with replacing(output / snapshot.picture) as temporary:
            shutil.copyfile(picture, temporary)
    write_files(files, output)
    return ReportPaths(
        page=output / PAGE,
        records=output / RECORDS,
        manifest=output / MANIFEST,
        index=output / INDEX,
        site=output / SITE,
        plots=tuple(output / name for name in files if name.startswith(f"{PLOTS}/")),
        sheets=tuple(output / name for name in files if name.startswith(f"{SHEETS}/")),
        picture=output / snapshot.picture if snapshot.picture else None,
    )


def write_files(files: Mapping[str, str], output: Path) -> None:
    """Write the files of a report, by their paths in its folder, and remove what an earlier one generated besides."""
    for name in sorted(files, key=lambda name: name == PAGE):  # the page last, when all that it shows is there
        write_text(output / name, files[name])
    for path in left_over(files, output):
        path.unlink()


def left_over(files: Iterable[str], output: Path) -> list[Path]:
    """What lies in the folders of generated files and is none of `files`."""
    found = {path for folder, pattern in GENERATED.items() for path in (output / folder).glob(pattern)}
    return sorted(found - {output / name for name in files})


def command_of(experiment: Experiment, output: Path) -> str:
    """What follows `harness report` to write the report of an experiment again."""
    option = "--published-checkpoints" if _tests(experiment) else ""
    return report_command(experiment.path, experiment.name, output, option)


def _relative(folder: Path, start: Path) -> str:
    return PurePath(os.path.relpath(folder.resolve(), start.resolve())).as_posix()


def read_page(output: Path) -> str:
    """The README.md as it is; empty where there is none."""
    path = output / PAGE
    return path.read_bytes().decode() if path.exists() else ""


def _published_curves(experiment: Experiment, run_root: Path) -> dict[str, tuple[EpochAP, ...]]:
    """Of each full cell the imported published curve, where there is one."""
    found = {planned.name: published_curve(run_root, planned.name) for planned in experiment.cells if planned.full}
    return {name: tuple(starmap(_validation, sorted(curve.items()))) for name, curve in found.items() if curve}


def _validation(epoch: int, values: Mapping[str, float]) -> EpochAP:
    return EpochAP(epoch=epoch, bbox_mAP=values.get("bbox_mAP"), segm_mAP=values.get("segm_mAP"))


def render(experiment: Experiment, snapshot: Snapshot, output: Path) -> dict[str, str]:
    """Every generated file of the report by its path in the report's folder, from the README.md and the small pictures

    that lie there.
    """
    rows, others = match(experiment, snapshot.records)
    tested = _tests(experiment)
    tables = checkpoint_tables(experiment, rows) if tested else result_tables(experiment, rows, snapshot.run_root)
    beside = None if tested else measured_table(rows)
    drawn = figures(rows, [] if tested else tables, published=snapshot.published, chosen=snapshot.curves)
    shown = [*tables, *([beside] if beside else [])]
    site = _site(snapshot, experiment, rows, others, shown, drawn, output)
    return {
        PAGE: splice(read_page(output), _page(site, snapshot, others, drawn)),
        RECORDS: to_json(snapshot),
        MANIFEST: manifest_json(manifest(experiment.name, rows, snapshot.run_root)),
        INDEX: model_index(*models(rows), snapshot.run_root, rows),
        **sheets(shown, rows),
        **figure_files(drawn),
        SITE: index_html(site),
    }


def _tests(experiment: Experiment) -> bool:
    """Whether its runs test published checkpoints, so that there are no learning curves."""
    return experiment.origin == Origin.PUBLISHED


def splice(page: str, generated: str) -> str:
    """The page with its generated part replaced or, where it has none, added at the end.

    Raises UserError where the markers are not one pair in order.
    """
    block = f"{BEGIN}\n{generated}{END}"
    begins, ends = page.count(BEGIN), page.count(END)
    if begins == ends == 0:
        return f"{page.rstrip()}\n\n{block}\n" if page.strip() else f"{block}\n"
    before, _, rest = page.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if begins != 1 or ends != 1 or not closed:
        raise UserError(f"{PAGE}: expected one {BEGIN!r} and after it one {END!r}; mend them, or move the file away")
    return f"{before}{block}{after}"


def _site(
    snapshot: Snapshot,
    experiment: Experiment,
    rows: Sequence[Row],
    others: Sequence[OtherRun],
    tables: Sequence[ResultTable],
    drawn: Figures,
    output: Path,
) -> Site:
    facts = protocol(rows, tested=_tests(experiment), beside=any(shown.title == MEASURED for shown in tables))
    beside = [f"{', '.join(_other(other)[:-1])}: {other.why}" for other in others]
    return Site(
        title=experiment.name,
        paragraphs=[text for text in (experiment.description.strip(), _progress(rows)) if text],
        tables=tables,
        rows=rows,
        plots=list(drawn.values()),
        notes=[(PROTOCOL, facts), *([(OTHERS, beside)] if beside else [])],
        pictures=read_pictures(rows, output),
        published=snapshot.published,
        run_root=snapshot.run_root,
        server=snapshot.server,
        command=snapshot.matrix,
    )


PROTOCOL, OTHERS = "How the numbers were measured", "Other runs"


def _page(site: Site, snapshot: Snapshot, others: Sequence[OtherRun], drawn: Figures) -> str:
    """The generated part of the page."""
    lines = [f"# {escape(site.title)}", ""]
    for paragraph in site.paragraphs:
        lines += [paragraph, ""]
    for shown in site.tables:
        lines += [f"## {escape(shown.title)}", "", *result_table(shown), ""]
    lines += shown_figures(drawn)
    if snapshot.picture:
        lines += ["## Sample prediction", "", f"![Predicted boxes and masks]({snapshot.picture})", ""]
    lines += [f"## {PROTOCOL}", "", *(f"- {escape(fact)}" for fact in dict(site.notes)[PROTOCOL]), ""]
    if others:
        columns = ("Run", "Seed", "State", "box AP", "mask AP", "Key", "Why it is in no table")
        lines += [f"## {OTHERS}", "", *table(columns, [list(map(escape, _other(other))) for other in others]), ""]
    lines += ["## Files", "", *_files(snapshot)]
    return "\n".join(lines) + "\n"


def shown_figures(drawn: Figures) -> list[str]:
    """The plots in markdown, under a heading where there are any."""
    lines = [f"![{escape(title)}]({name})" for name, (title, _) in drawn.items()]
    return ["## Plots", "", *(text for line in lines for text in (line, ""))] if lines else []


def _progress(rows: Sequence[Row]) -> str:
    """Such as "2 runs: 1 finished, 1 not started."."""
    states = Counter(run.state.lower() if run else "not started" for row in rows for _, run in row.runs)
    counted = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    return f"{count(states.total(), 'run')}: {counted}."


def _other(other: OtherRun) -> list[str]:
    run = other.record
    scores = [percent(run.metrics.get(f"{kind}_mAP") if run.finished else None) for kind in ("bbox", "segm")]
    return [run.name, str(run.seed), run.state.lower(), *scores, run.key, other.why]


def _files(snapshot: Snapshot) -> list[str]:
    where = (
        f" Their paths, there and in the links above, start from `{snapshot.run_root}`." if snapshot.run_root else ""
    )
    report, verify = f"harness report {snapshot.matrix}", verify_command(snapshot.matrix, snapshot.experiment)
    chosen = "".join(f" --curves {shlex.quote(pattern)}" for pattern in snapshot.curves)
    return [
        f"[{SITE}]({SITE}) is this page to sort and filter, with the recipe, the curves and pictures of every cell. "
        f"[{MANIFEST}]({MANIFEST}) lists checkpoint, log, config and detections of every run in the tables, with size "
        f"and sha256 (`harness manifest verify {verify}`).{where} [{SHEETS}/]({SHEETS}) holds the tables as "
        f"CSV, [{INDEX}]({INDEX}) the full results in the form of model zoos, [{RECORDS}]({RECORDS}) all that this "
        "page was made of.",
        "",
        f"Generated by `{report}{chosen}`; `{report} --check` verifies it.",
    ]
