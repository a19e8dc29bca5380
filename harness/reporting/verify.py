"""Are the files of a manifest there, and are they still those it means? On disks, and where it links to."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from os.path import normpath
from pathlib import Path
from urllib.parse import quote, urlsplit

from harness.downloads import GoneError, RefusedError, UnreachableError, remote_size
from harness.files import sha256
from harness.reporting.link_rules import is_url, link_faults
from harness.reporting.manifest import MANIFEST, Entry, Manifest
from harness.reporting.model_index import INDEX
from harness.reporting.page import PAGE, RECORDS, read_page
from harness.reporting.pictures import PICTURES
from harness.reporting.records import FileRecord, read_snapshot
from harness.reporting.sheets import SHEETS
from harness.reporting.site import SITE
from harness.wording import count


class Kind(StrEnum):
    """What is to be said of a file or a link."""

    WRONG = "wrong"  # a link that breaks the rules of links
    MISSING = "missing"
    CHANGED = "changed"
    UNEXPECTED = "unexpected"  # there, but not in the manifest
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to be said."""

    kind: Kind
    text: str
    files: int = 1  # of which it is said

    @property
    def is_fault(self) -> bool:
        """Whether it is for somebody to mend."""
        return self.kind != Kind.NOT_CHECKED


Ask = Callable[[str], int | None]


def verify(
    manifest: Manifest,
    folder: Path,
    *,
    cells: Collection[str] | None = None,
    copies: Path | None = None,
    published: Path | None = None,
    ask: Ask = remote_size,
) -> Iterator[Finding]:
    """What is wrong with the files of a manifest in `folder`; first by the rules of links, then row by row.

    cells: the names of the experiment's cells, to say which rows it does not have. copies: a folder that may hold what
    is linked, each under its own name. published: the folder of `harness publish`. ask: the size at a URL (None where
    the server does not say it).
    """
    yield from (Finding(kind=Kind.WRONG, text=text) for text in link_faults(manifest.rows))
    for name in dict.fromkeys(row.name for row in manifest.rows):
        if cells is not None and name not in cells:
            yield Finding(kind=Kind.UNEXPECTED, text=f"{name}: the matrix file has no such cell")
    root = Path(normpath(folder / (manifest.run_root or "")))
    remote = _Remote(ask)
    for row in manifest.rows:
        for role, file in row.files.items():
            shown = f"{row.name}{'' if row.seed is None else f' seed {row.seed}'}: {role}"
            if is_url(file.path):
                yield from remote.check(shown, file)
                copy = copies / file.path.rpartition("/")[2] if copies else None
                if copy and copy.is_file():
                    yield from _local(shown, copy, file)
            elif role != "backbone":  # a link beside a page of somebody else's
                yield from _local(shown, root / file.path, file)
    yield from remote.silence()
    if manifest.run_root is not None:
        yield from _unreported(manifest, folder, root / manifest.experiment)
    if (folder / RECORDS).is_file():
        yield from _strangers(manifest, folder)
    if published is not None:
        yield from published_faults(manifest.rows, published)


def _local(shown: str, path: Path, file: FileRecord) -> Iterator[Finding]:
    if not path.is_file():
        yield Finding(kind=Kind.MISSING, text=f"{shown}: {path}")
    elif file.size is not None and (size := path.stat().st_size) != file.size:
        yield Finding(kind=Kind.CHANGED, text=f"{shown}: {path}: {size} bytes, the manifest says {file.size}")
    elif file.sha256 and not (found := sha256(path)).startswith(file.sha256):
        text = f"{shown}: {path}: sha256 {found[:16]}..., expected {file.sha256[:16]}..."
        yield Finding(kind=Kind.CHANGED, text=text)


class _Remote:
    """Asks servers, none again that does not answer."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.silent: dict[str, str] = {}  # host -> why
        self.left: Counter[str] = Counter()  # host -> files that it was not asked for

    def check(self, shown: str, file: FileRecord) -> Iterator[Finding]:
        host = urlsplit(file.path).netloc
        if host not in self.silent:
            try:
                size = self.ask(file.path)
            except GoneError as error:
                yield Finding(kind=Kind.MISSING, text=f"{shown}: {error}")
                return
            except RefusedError as error:
                yield Finding(kind=Kind.NOT_CHECKED, text=f"{shown}: {file.path} ({error})")
                return
            except UnreachableError as error:
                self.silent[host] = str(error)
            else:
                if None not in (size, file.size) and size != file.size:
                    text = f"{shown}: {file.path}: {size} bytes, the manifest says {file.size}"
                    yield Finding(kind=Kind.CHANGED, text=text)
                return
        self.left[host] += 1

    def silence(self) -> Iterator[Finding]:
        """A line for each server that did not answer."""
        for host, why in self.silent.items():
            left = self.left[host]
            yield Finding(kind=Kind.NOT_CHECKED, text=f"{count(left, 'file')} on {host}: {why}", files=left)


def _unreported(manifest: Manifest, folder: Path, runs: Path) -> Iterator[Finding]:
    """Finished runs that neither the manifest has nor the report beside it leaves out with a reason."""
    known = {row.key for row in manifest.rows}
    if (folder / RECORDS).is_file():
        known |= {record.key for record in read_snapshot(folder / RECORDS).records}
    for result in sorted(runs.glob("*/result.json")):
        if result.parent.name.rpartition("-")[2] not in known:
            text = f"{result.parent}: a finished run that is not in the manifest; now run: harness report"
            yield Finding(kind=Kind.UNEXPECTED, text=text)


def _strangers(manifest: Manifest, folder: Path) -> Iterator[Finding]:
    """Files in a report's folder that neither the report makes nor its README.md names."""
    page = read_page(folder)
    made = {PAGE, RECORDS, MANIFEST, INDEX, SITE, *(f"{PICTURES}/{row.key}.jpg" for row in manifest.rows)}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        is_sheet = name.parent == Path(SHEETS) and name.suffix == ".csv"
        if not (is_sheet or name.as_posix() in made or quote(name.as_posix()) in page):
            text = f"{path}: neither made by harness report nor named in {PAGE}"
            yield Finding(kind=Kind.UNEXPECTED, text=text)


PUBLISHED_FOLDER = re.compile(r"(.+?)(?:\+shortened)?(?:\+(?:fp32|fp16|bf16))?_\d{8}_\d{6}-([0-9a-f]{8})")
PUBLISHED_FILES = {"config": "config.json", "log": "log.json"}
"""What `harness publish` copies of a run."""


def published_faults(rows: Iterable[Entry], published: Path) -> Iterator[Finding]:
    """What is wrong with the folders that `harness publish` made of these rows; others' folders are left alone."""
    by_name: dict[str, list[Entry]] = defaultdict(list)
    for row in rows:
        by_name[row.name].append(row)
    for folder in sorted(path for path in published.glob("*") if path.is_dir()):
        named = PUBLISHED_FOLDER.fullmatch(folder.name)
        if named and named[1] in by_name:
            yield from _published_folder(folder, named[2], by_name[named[1]])


def _published_folder(folder: Path, digits: str, rows: Sequence[Entry]) -> Iterator[Finding]:
    weights = FileRecord(path="", size=None, sha256=digits)
    yield from _local("published", folder / f"{folder.name}.pth", weights)
    strange = []
    for role, name in PUBLISHED_FILES.items():
        path, wanted = folder / name, {row.files[role].sha256 for row in rows if role in row.files}
        if not path.is_file():
            yield Finding(kind=Kind.MISSING, text=f"published: {path}")
        elif sha256(path) not in wanted:
            text = f"published: {path}: the {role} of no run in the manifest"
            strange.append(Finding(kind=Kind.UNEXPECTED, text=text))
    if len(strange) < len(PUBLISHED_FILES):  # or it is of another experiment's run of a cell of that name
        yield from strange
    known = {f"{folder.name}.pth", PAGE, *PUBLISHED_FILES.values()}
    for path in sorted(path for path in folder.rglob("*") if path.relative_to(folder).as_posix() not in known):
        yield Finding(kind=Kind.UNEXPECTED, text=f"published: {path}: not made by harness publish")


def summary(manifest: Manifest, findings: Iterable[Finding]) -> str:
    """Such as "63 files of 21 rows: 2 wrong, 63 not checked"."""
    kinds: Counter[Kind] = Counter()
    for finding in findings:
        kinds[finding.kind] += finding.files
    counted = [f"{kinds[kind]} {kind}" for kind in Kind if kind in kinds]
    files = sum(len(row.files) for row in manifest.rows)
    of_rows = f"{count(files, 'file')} of {count(len(manifest.rows), 'row')}"
    return f"{of_rows}: {', '.join(counted) or 'all as the manifest says'}"
