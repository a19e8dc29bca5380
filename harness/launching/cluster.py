"""A cluster: where jobs go, and what each asks for there. One YAML file a cluster, in slurm/clusters/."""

import fnmatch
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from harness import yamlfile
from harness.document import Document, Loc, validate
from harness.errors import UserError
from harness.launching.cluster_file import ClusterFile, Override, ShapeBlock
from harness.matrix_file import Resources
from harness.settings import LOCAL
from harness.wording import count, did_you_mean

FOLDER = Path("slurm/clusters")
_OPTION = re.compile(r"[^\s-]\S*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobShape:
    """What one job asks of the cluster. Runs of one shape go as one array."""

    partition: str | None = None  # None, here and below: what the cluster does of itself
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodes: int
    gpus_per_node: int
    cpus_per_gpu: int
    memory_gb: int | None = None  # a node
    minutes: int

    @property
    def tasks_per_node(self) -> int:
        """Processes: one a GPU; one where there is none."""
        return max(1, self.gpus_per_node)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What a part of a cluster file says of the jobs of some cells."""

    cells: tuple[str, ...]  # patterns on their names
    values: Mapping[str, Any]  # fields of JobShape
    places: Mapping[str, str]  # of each, as file:line:column

    def covers(self, cell: str) -> bool:
        """Whether it speaks of this cell."""
        return any(fnmatch.fnmatchcase(cell, pattern) for pattern in self.cells)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A cluster file, resolved."""

    name: str
    path: Path
    description: str
    layers: tuple[Layer, ...]  # the file's own values, then its overrides: a later one stands above an earlier one
    array_parallelism: int | None  # elements of an array that run at the same time
    signal_delay_s: int  # how long before its time limit a job is told to save
    modules: tuple[str, ...]  # to load
    setup: tuple[str, ...]  # lines of bash, before the job
    environment: Mapping[str, str]
    container: str | None  # words of bash before the Python, such as "apptainer exec --nv harness.sif"
    python: str | None  # None: the Python that submits
    staging: str | None  # a folder on the node's own disk for the data set; $VARIABLES are those of the job

    def shape_of(self, cell: str, resources: Resources) -> JobShape:
        """The job of a cell: what the matrix file asks for, above it this file's values, above them its overrides.

        Raises UserError where the job would be told to save before it has worked.
        """
        given = {name: value for name, value in resources.model_dump().items() if name in _SHAPE_FIELDS}
        for layer in self.layers:
            if layer.covers(cell):
                given |= layer.values
        shape = JobShape(**given)
        if shape.minutes * 60 <= 2 * self.signal_delay_s:
            raise UserError(
                f"cluster {self.name!r}: jobs of {cell} get {count(shape.minutes, 'minute')}, and are told to save "
                f"{self.signal_delay_s} s before their end; raise minutes, or lower signal_delay_s"
            )
        return shape

    def place(self, cell: str, name: str) -> str:
        """Where a field of a cell's JobShape comes from: file:line:column, or words for what is not in this file."""
        found = "the matrix file's resources" if name in Resources.model_fields else str(self.path)
        for layer in self.layers:
            if layer.covers(cell):
                found = layer.places.get(name, found)
        return found


_SHAPE_FIELDS = frozenset(field.name for field in fields(JobShape))


def load_cluster(name: str, folders: tuple[Path, ...] = (FOLDER,)) -> Cluster:
    """Read a cluster file: a path that ends in .yaml, or NAME for NAME.yaml in the first of `folders` that has it.

    Raises UserError with the known names where there is none, and with every mistake of the file, each as
    file:line:column.
    """
    path = find_cluster(name, folders)
    document = yamlfile.load(path)
    file = validate(document, ClusterFile)
    _check(document, file)
    document.raise_mistakes()
    return Cluster(
        name=path.stem,
        path=path,
        description=file.description,
        layers=tuple(_layer(document, loc, block) for loc, block in _blocks(file)),
        array_parallelism=file.array_parallelism,
        signal_delay_s=file.signal_delay_s,
        modules=tuple(file.modules),
        setup=tuple(file.setup),
        environment={key: str(value) for key, value in file.environment.items()},
        container=file.container and file.container.strip(),
        python=file.python,
        staging=file.staging,
    )


def find_cluster(name: str, folders: tuple[Path, ...] = (FOLDER,)) -> Path:
    """The file of a cluster.

    Raises UserError with the known names where there is none.
    """
    if name.endswith(".yaml"):
        return Path(name)
    for folder in folders:
        if (folder / f"{name}.yaml").exists():
            return folder / f"{name}.yaml"
    known = [LOCAL, *sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})]
    looked = ", ".join(map(str, folders))
    raise UserError(
        f"unknown cluster {name!r}{did_you_mean(name, known)}; known: {', '.join(known)} (looked in {looked})"
    )


def _given(block: ShapeBlock) -> dict[str, Any]:
    return block.model_dump(include=set(_SHAPE_FIELDS), exclude_none=True)


def _blocks(file: ClusterFile) -> list[tuple[Loc, ShapeBlock]]:
    """The file's own values and its overrides, each with its place."""
    return [((), file), *((("overrides", index), entry) for index, entry in enumerate(file.overrides))]


def _layer(document: Document, loc: Loc, block: ShapeBlock) -> Layer:
    cells = block.cells if isinstance(block, Override) else "*"
    values = _given(block)
    places = {name: document.locate((*loc, name), False) for name in values}
    return Layer(
        cells=(cells,) if isinstance(cells, str) else tuple(cells),
        values=values,
        places={name: f"{document.path}:{line}:{column}" for name, (line, column) in places.items()},
    )


def _check(document: Document, file: ClusterFile) -> None:
    """Note what the schema cannot say: words that sbatch or the script's bash would take for something else."""
    for loc, block in _blocks(file):
        for name, value in _given(block).items():
            if isinstance(value, str) and not _OPTION.fullmatch(value):
                text = f"{name} {value!r} must be one word without spaces that does not begin with '-'"
                document.mistake((*loc, name), text)
    for index, entry in enumerate(file.overrides):
        if not _given(entry):
            document.mistake(("overrides", index), "this override gives nothing besides its cells")
        if not entry.cells:
            document.mistake(("overrides", index, "cells"), "cells has no pattern, so this override is for none")
    for name, fault in (("python", _python), ("container", _container), ("staging", _staging)):
        if (text := getattr(file, name)) and (said := fault(text)):
            document.mistake((name,), f"{name} {text!r} {said}")
    for name in file.environment:
        if not _VARIABLE.fullmatch(name):
            text = f"{name!r} is no name of an environment variable: letters, digits, '_', no digit first"
            document.mistake(("environment", name), text, key=True)
        elif name.startswith(("SLURM_", "SBATCH_")):
            document.mistake(("environment", name), f"{name} belongs to SLURM; use the keys of this file", key=True)


def _python(text: str) -> str:
    return "is taken word for word: give its path without '~' and '$'" if re.search(r"^~|\$", text) else ""


def _container(text: str) -> str:
    try:
        shlex.split(text)
    except ValueError:
        return "has a quote that is not closed"
    return "must be words on one line" if "\n" in text.strip() else ""


def _staging(text: str) -> str:
    return "" if text.startswith(("/", "$")) else "must be an absolute path, or begin with a variable"
