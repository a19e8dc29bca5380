"""A matrix file becomes an Experiment (cells with recipes, seeds, resources, tables), or a list of its mistakes."""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import axes, yamlfile
from harness.cell import Cell
from harness.document import Document, Loc, validate
from harness.errors import UserError
from harness.matrix_cells import CellReader, selects
from harness.matrix_file import NAME, MatrixFile, Resources
from harness.recipe import FROM_SCRATCH, Recipe, field_names, parse_value, with_overrides
from harness.run_spec import Origin
from harness.shortening import Shortening, shortened
from harness.wording import did_you_mean, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCell:
    """A cell as an experiment wants it: with its overrides, shortening and resources."""

    cell: Cell
    recipe: Recipe  # with the overrides, before the shortening
    suffix: str  # what the overrides changed, such as "+lr=0.01"; empty for the cell's own recipe
    shortening: Shortening
    resources: Resources

    @property
    def name(self) -> str:
        """The cell's name with its overrides, by which it is shown everywhere."""
        return self.cell.name + self.suffix

    @property
    def executed(self) -> Recipe:
        """The recipe after the shortening."""
        return shortened(self.recipe, self.shortening)

    @property
    def full(self) -> bool:
        """Whether its result may stand for the cell: nothing overridden, nothing shortened."""
        return not self.suffix and not self.shortening


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A named table: the names of its rows' cells, in order."""

    title: str
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One matrix file, resolved."""

    name: str
    description: str
    path: Path
    seeds: tuple[int, ...]
    cells: tuple[PlannedCell, ...]
    tables: tuple[Table, ...]
    origin: Origin = Origin.TRAINED  # of its runs

    def find(self, name: str) -> PlannedCell:
        """The cell of this name, with or without its suffix.

        Raises UserError with the nearest name.
        """
        for planned in self.cells:
            if name in (planned.name, planned.cell.name):
                return planned
        names = [planned.cell.name for planned in self.cells]
        raise UserError(f"{self.path}: the experiment has no cell {name!r}{did_you_mean(name, names)}")


def load_experiment(path: Path | str) -> Experiment:
    """Read a matrix file.

    Raises UserError with every mistake of the file, each as file:line:column, what, the expected, the nearest name.
    """
    document = yamlfile.load(Path(path))
    file = validate(document, MatrixFile)
    reader = CellReader(document, file, sound=not document.mistakes)
    cells = reader.cells()
    planner = _Planner(document, file, reader)
    planned = tuple(planner.plan(cells))
    tables = planner.tables(planned)
    name = file.name or Path(path).stem
    if not NAME.fullmatch(name):
        document.mistake(("name",), f"name {name!r} must be letters, digits, '.', '_' or '-', at most 64")
    if len(set(file.seeds)) != len(file.seeds):
        document.mistake(("seeds",), f"seeds {file.seeds} repeat")
    if not document.mistakes and not cells:
        text = "everything is excluded" if file.exclude else "give axes, paired or include"
        document.mistake((), f"the matrix has no cells: {text}")
    document.raise_mistakes()
    return Experiment(
        name=name,
        description=file.description,
        path=Path(path),
        seeds=tuple(file.seeds),
        cells=planned,
        tables=tables,
    )


def plan_cells(document: Document, file: MatrixFile) -> tuple[PlannedCell, ...]:
    """The cells of a parsed matrix file. Mistakes are noted in the document."""
    reader = CellReader(document, file, sound=not document.mistakes)
    return tuple(_Planner(document, file, reader).plan(reader.cells()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """One block of recipe overrides, parsed."""

    loc: Loc
    values: dict[str, Any]
    label: str


@dataclass(frozen=True, slots=True)
class _Planner:
    """What the file says of its cells: recipes, resources, tables. Mistakes are noted with their place."""

    document: Document
    file: MatrixFile
    points: CellReader  # has read the cells

    def plan(self, cells: list[Cell]) -> list[PlannedCell]:
        blocks = [(("overrides", index, "recipe"), entry) for index, entry in enumerate(self.file.overrides)]
        layers = [self._layer(loc, entry.recipe) for loc, entry in blocks]
        shared = self._layer(("recipe",), self.file.recipe)
        planned: list[PlannedCell] = []
        refused: dict[tuple[Loc, str], list[str]] = {}  # (place, why) -> names of cells
        for cell in cells:
            hits = [index for index, (_, entry) in enumerate(blocks) if _matches(entry.cells, cell.name)]
            asked = self.file.resources.model_dump()
            for index in hits:
                asked.update(blocks[index][1].resources.model_dump(exclude_unset=True))
            outcome = self._planned(cell, [shared, *(layers[index] for index in hits)], Resources(**asked))
            if isinstance(outcome, PlannedCell):
                planned.append(outcome)
            else:
                refused.setdefault(outcome, []).append(cell.name)
        for (loc, why), names in refused.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            self.document.mistake(loc, f"{why} ({names[0]}{more})")
        for index, (_, entry) in enumerate(blocks):
            self._check_patterns(("overrides", index, "cells"), entry.cells, cells)
        return planned

    def _check_patterns(self, loc: Loc, given: str | list[str], cells: Sequence[Cell]) -> None:
        """Note each pattern that matches no cell."""
        patterns = [given] if isinstance(given, str) else given
        for number, pattern in enumerate(patterns):
            if self.points.sound and not any(_matches(pattern, cell.name) for cell in cells):
                place = loc if isinstance(given, str) else (*loc, number)
                self.document.mistake(place, "this pattern matches no cell of the matrix")
        if self.points.sound and not patterns:
            self.document.mistake(loc, "expected a pattern that matches cells, found an empty list")

    def _planned(self, cell: Cell, layers: list[_Layer], resources: Resources) -> PlannedCell | tuple[Loc, str]:
        """The cell with its layers of overrides, a later one above an earlier; or the place and reason of a refusal."""
        base = cell.recipe()
        merged = {name: value for layer in layers for name, value in layer.values.items()}
        try:
            recipe = with_overrides(base, merged)
        except UserError as error:
            return next((layer.loc for layer in reversed(layers) if layer.values), self.points.origin[cell]), str(error)
        if recipe.pretrained == axes.MISSING_WEIGHTS:
            why = f"no pretrained weights exist for this cell: exclude it, or override pretrained: {FROM_SCRATCH}"
            return self.points.origin[cell], why
        return PlannedCell(
            cell=cell,
            recipe=recipe,
            suffix=_suffix(base, layers),
            shortening=Shortening(**self.file.shorten.model_dump()),
            resources=resources,
        )

    def _layer(self, loc: Loc, given: Mapping[str, Any]) -> _Layer:
        values = dict(given)
        label = values.pop("label", "")
        if not isinstance(label, str) or (label and not NAME.fullmatch(label)):
            self.document.mistake((*loc, "label"), f"label {shown(label)} must be letters, digits, '.', '_' or '-'")
        parsed: dict[str, Any] = {}
        for name, value in values.items():
            try:
                parsed[name] = parse_value(name, value)
            except KeyError:
                text = (
                    f"unknown recipe field {name!r}{did_you_mean(name, field_names())} (harness show CELL lists them)"
                )
                self.document.mistake((*loc, name), text, key=True)
            except ValueError as error:
                self.document.mistake((*loc, name), str(error))
        return _Layer(loc=loc, values=parsed, label=str(label))

    def tables(self, planned: tuple[PlannedCell, ...]) -> tuple[Table, ...]:
        tables = []
        for index, table in enumerate(self.file.tables):
            loc: Loc = ("tables", index, "cells")
            if isinstance(table.cells, dict):
                checked = self.points.checked(loc, table.cells)
                rows = [entry for entry in planned if selects(checked, entry.cell.point)]
            else:
                patterns = [table.cells] if isinstance(table.cells, str) else table.cells
                rows = [entry for pattern in patterns for entry in planned if _matches(pattern, entry.cell.name)]
                if rows and not self.document.mistakes:
                    self._check_patterns(loc, table.cells, [entry.cell for entry in planned])
            if self.points.sound and not rows and not self.document.mistakes:
                self.document.mistake(loc, f"table {table.title!r} selects no cell of the matrix")
            tables.append(Table(title=table.title, rows=tuple(dict.fromkeys(entry.name for entry in rows))))
        return tuple(tables)


def _matches(patterns: str | list[str], name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, p) for p in ([patterns] if isinstance(patterns, str) else patterns))


def _suffix(base: Recipe, layers: list[_Layer]) -> str:
    """What the layers change in the recipe, each field told by the last layer that sets it: "+lr=0.01", "+demo"."""
    last = {name: index for index, layer in enumerate(layers) for name in layer.values}
    texts: dict[str, None] = {}
    for index, layer in enumerate(layers):
        own = {name: value for name, value in layer.values.items() if last[name] == index}
        changed = field_texts({name: value for name, value in own.items() if getattr(base, name) != value})
        if changed:
            texts.update(dict.fromkeys([layer.label] if layer.label else changed))
    return "".join(f"+{text}" for text in texts)


def field_texts(values: Mapping[str, Any]) -> list[str]:
    """Recipe fields as a name carries them: "lr=0.01", "lr_steps=8,11"."""
    return [f"{name}={_short(value)}" for name, value in values.items()]


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return ("x" if value and not isinstance(value[0], tuple) and len(value) == 2 else ",").join(map(_short, value))
    return re.sub(r"[^A-Za-z0-9._,-]+", "_", str(value))
