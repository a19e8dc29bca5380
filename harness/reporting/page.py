"""A report: the page (README.md), records.json, manifest.json and plots, all made of records and the matrix file."""

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from harness.errors import UserError
from harness.files import replacing, write_text
from harness.matrix import Experiment
from harness.reporting import plots
from harness.reporting.comparison import comparison_tables
from harness.reporting.manifest import manifest_json
from harness.reporting.markdown import escape, result_table, table
from harness.reporting.protocol import protocol
from harness.reporting.records import Record, Snapshot, ordered, relative_to, to_json
from harness.reporting.rows import OtherRun, Row, match
from harness.reporting.tables import ResultTable, result_tables
from harness.runs import Origin
from harness.wording import percent

PAGE, RECORDS, MANIFEST, PLOTS = "README.md", "records.json", "manifest.json", "plots"
BEGIN = "<!-- harness report: begin; what stands between these two markers is generated -->"
END = "<!-- harness report: end -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPaths:
    """The files of a report."""

    page: Path
    records: Path
    manifest: Path
    plots: tuple[Path, ...]
    picture: Path | None


def write_report(
    experiment: Experiment,
    records: Iterable[Record],
    output: Path,
    *,
    run_root: Path | None = None,
    picture: Path | None = None,
) -> ReportPaths:
    """Write the report of an experiment into the folder `output`; the same records give the same bytes.

    run_root: the folder of the runs; paths below it are written relative to it, and it relative to `output`. picture:
    a sample prediction, copied into `output`. Text of an existing README.md outside the generated markers is kept.
    Raises UserError where those markers are broken or rows of a table cannot be told apart.
    """
    snapshot = Snapshot(
        experiment=experiment.name,
        matrix=_shown(experiment.path) + (" --published-checkpoints" if _tests(experiment) else ""),
        run_root=_relative(run_root, output) if run_root else None,
        picture=f"sample{picture.suffix}" if picture else None,
        matplotlib=plots.version(),
        records=ordered(relative_to(records, run_root) if run_root else records),
    )
    files = render(experiment, snapshot, read_page(output))
    if picture and snapshot.picture:
        with replacing(output / snapshot.picture) as temporary:
            shutil.copyfile(picture, temporary)
    for name in sorted(files, key=lambda name: name == PAGE):  # the page last, when all that it shows is there
        write_text(output / name, files[name])
    drawn = tuple(output / name for name in files if name.startswith(PLOTS))
    for old in set((output / PLOTS).glob("*.svg")) - set(drawn):
        old.unlink()
    return ReportPaths(
        page=output / PAGE,
        records=output / RECORDS,
        manifest=output / MANIFEST,
        plots=drawn,
        picture=output / snapshot.picture if snapshot.picture else None,
    )


def _shown(path: Path) -> str:
    """The matrix file as one types it: relative to the working folder, or its name."""
    full, here = path.resolve(), Path.cwd()
    return full.relative_to(here).as_posix() if full.is_relative_to(here) else path.name


def _relative(folder: Path, start: Path) -> str:
    return PurePath(os.path.relpath(folder.resolve(), start.resolve())).as_posix()


def read_page(output: Path) -> str:
    """The README.md as it is; empty where there is none."""
    path = output / PAGE
    return path.read_bytes().decode() if path.exists() else ""


def render(experiment: Experiment, snapshot: Snapshot, page: str) -> dict[str, str]:
    """Every generated file of the report by its path in the report's folder. page: the README.md as it is."""
    rows, others = match(experiment, snapshot.records)
    tables = (
        comparison_tables(experiment, rows)
        if _tests(experiment)
        else result_tables(experiment, rows, snapshot.run_root)
    )
    drawn = _plots(rows, [] if _tests(experiment) else tables)
    text = _page(experiment, snapshot, rows, others, tables, drawn)
    return {
        PAGE: splice(page, text),
        RECORDS: to_json(snapshot),
        MANIFEST: manifest_json(experiment.name, rows, snapshot.run_root),
        **{f"{PLOTS}/{name}": svg for name, (_, svg) in drawn.items()},
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


Drawn = dict[str, tuple[str, str]]
"""File name -> (title, SVG)."""


def _plots(rows: Sequence[Row], tables: Sequence[ResultTable]) -> Drawn:
    by_name = {row.planned.name: row for row in rows}
    found: dict[str, tuple[str, str | None]] = {
        "tradeoff.svg": ("Box AP against speed", plots.tradeoff(rows)),
    }
    for number, shown in enumerate(tables, start=1):
        svg = plots.learning_curves([by_name[row.name] for row in shown.rows])
        found[f"curves-{number}.svg"] = (f"Validation AP by epoch: {shown.title}", svg)
    return {name: (title, svg) for name, (title, svg) in found.items() if svg}


def _page(
    experiment: Experiment,
    snapshot: Snapshot,
    rows: Sequence[Row],
    others: Sequence[OtherRun],
    tables: Sequence[ResultTable],
    drawn: Drawn,
) -> str:
    """The generated part of the page."""
    lines = [f"# {escape(experiment.name)}", "", *_paragraph(experiment.description), *_paragraph(_progress(rows))]
    for shown in tables:
        lines += [f"## {escape(shown.title)}", "", *result_table(shown), ""]
    if drawn:
        lines += ["## Plots", ""]
        for name, (title, _) in drawn.items():
            lines += [f"![{escape(title)}]({PLOTS}/{name})", ""]
    if snapshot.picture:
        lines += ["## Sample prediction", "", f"![Predicted boxes and masks]({snapshot.picture})", ""]
    lines += ["## How the numbers were measured", "", *protocol(rows, tested=_tests(experiment)), ""]
    if others:
        columns = ("Run", "Seed", "State", "box AP", "mask AP", "Key", "Why it is in no table")
        lines += ["## Other runs", "", *table(columns, [_other(other) for other in others]), ""]
    lines += ["## Files", "", *_files(snapshot)]
    return "\n".join(lines) + "\n"


def _paragraph(text: str) -> list[str]:
    return [text.strip(), ""] if text.strip() else []


def _progress(rows: Sequence[Row]) -> str:
    """Such as "2 runs: 1 finished, 1 not started."."""
    states = Counter(run.state.lower() if run else "not started" for row in rows for _, run in row.runs)
    counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return f"{states.total()} runs: {counted}."


def _other(other: OtherRun) -> list[str]:
    run = other.record
    scores = [percent(run.metrics.get(f"{kind}_mAP") if run.finished else None) for kind in ("bbox", "segm")]
    return [escape(text) for text in (run.name, str(run.seed), run.state.lower(), *scores, run.key, other.why)]


def _files(snapshot: Snapshot) -> list[str]:
    where = (
        f" Their paths, there and in the links above, start from `{snapshot.run_root}`." if snapshot.run_root else ""
    )
    return [
        f"[{MANIFEST}]({MANIFEST}) lists checkpoint, log, config and detections of every run in the tables, with size "
        f"and sha256.{where} [{RECORDS}]({RECORDS}) holds all that this page was made of.",
        "",
        f"Generated by `harness report {snapshot.matrix}`; `harness report {snapshot.matrix} --check` verifies it.",
    ]
