"""Are the files of a manifest there, and are they still those it means? On disks, and where it links to."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from os.path import normpath
from pathlib import Path
from urllib.parse import urlsplit

from harness.downloads import GoneError, UnreachableError, remote_size
from harness.files import sha256
from harness.reporting.link_rules import is_url, link_faults
from harness.reporting.manifest import Manifest
from harness.reporting.page import RECORDS
from harness.reporting.records import FileRecord, read_snapshot


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
    ask: Ask = remote_size,
) -> Iterator[Finding]:
    """What is wrong with the files of a manifest in `folder`; first by the rules of links, then row by row.

    cells: the names of the experiment's cells, to say which rows it does not have. copies: a folder that may hold what
    is linked, each under its own name. ask: the size at a URL (None where the server does not say it).
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
    if manifest.run_root is not None:
        yield from _unexpected(manifest, folder, root / manifest.experiment)


def _local(shown: str, path: Path, file: FileRecord) -> Iterator[Finding]:
    if not path.is_file():
        yield Finding(kind=Kind.MISSING, text=f"{shown}: {path}")
    elif file.size is not None and (size := path.stat().st_size) != file.size:
        yield Finding(kind=Kind.CHANGED, text=f"{shown}: {path}: {size} bytes, the manifest says {file.size}")
    elif file.sha256 and not (found := sha256(path)).startswith(file.sha256):
        text = f"{shown}: {path}: sha256 {found[:16]}..., the manifest says {file.sha256[:16]}..."
        yield Finding(kind=Kind.CHANGED, text=text)


class _Remote:
    """Asks servers, none again that does not answer."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.silent: dict[str, str] = {}  # host -> why

    def check(self, shown: str, file: FileRecord) -> Iterator[Finding]:
        host = urlsplit(file.path).netloc
        if host not in self.silent:
            try:
                size = self.ask(file.path)
            except GoneError as error:
                yield Finding(kind=Kind.MISSING, text=f"{shown}: {error}")
                return
            except UnreachableError as error:
                self.silent[host] = str(error)
            else:
                if None not in (size, file.size) and size != file.size:
                    text = f"{shown}: {file.path}: {size} bytes, the manifest says {file.size}"
                    yield Finding(kind=Kind.CHANGED, text=text)
                return
        yield Finding(kind=Kind.NOT_CHECKED, text=f"{shown}: {file.path} ({self.silent[host]})")


def _unexpected(manifest: Manifest, folder: Path, runs: Path) -> Iterator[Finding]:
    """Finished runs that neither the manifest has nor the report beside it leaves out with a reason."""
    known = {row.key for row in manifest.rows}
    if (folder / RECORDS).is_file():
        known |= {record.key for record in read_snapshot(folder / RECORDS).records}
    for result in sorted(runs.glob("*/result.json")):
        if result.parent.name.rpartition("-")[2] not in known:
            text = f"{result.parent}: a finished run that is not in the manifest; now run: harness report"
            yield Finding(kind=Kind.UNEXPECTED, text=text)


def summary(manifest: Manifest, findings: Iterable[Finding]) -> str:
    """Such as "63 files of 21 rows: 2 wrong, 63 not checked"."""
    kinds = [finding.kind for finding in findings]
    counted = [f"{kinds.count(kind)} {kind}" for kind in Kind if kind in kinds]
    files = sum(len(row.files) for row in manifest.rows)
    return f"{files} files of {len(manifest.rows)} rows: {', '.join(counted) or 'all as the manifest says'}"
