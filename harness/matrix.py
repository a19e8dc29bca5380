"""A matrix file becomes an Experiment (cells with recipes, seeds, resources, tables), or a list of its mistakes."""

import fnmatch
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import axes, yamlfile
from harness.cell import Cell, did_you_mean, make_cell
from harness.errors import UserError
from harness.matrix_file import NAME, MatrixFile, Resources, Scalar
from harness.recipe import FROM_SCRATCH, Recipe, Shortening, field_names, parse_value, shortened, with_overrides
from harness.yamlfile import Document, Loc, listed


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
    file = yamlfile.validate(document, MatrixFile)
    document_ok = not document.mistakes
    reader = _Reader(document, file if file is not None else _salvage(document))
    cells = reader.cells()
    planned = tuple(reader.plan(cells))
    tables = reader.tables(planned)
    name = reader.file.name or Path(path).stem
    if not NAME.fullmatch(name):
        document.mistake(("name",), f"name {name!r} must be letters, digits, '.', '_' or '-', at most 64")
    if len(set(reader.file.seeds)) != len(reader.file.seeds):
        document.mistake(("seeds",), f"seeds {reader.file.seeds} repeat")
    if document_ok and not document.mistakes and not cells:
        document.mistake((), "the matrix has no cells: give axes, paired or include")
    document.raise_mistakes()
    return Experiment(
        name=name,
        description=reader.file.description,
        path=Path(path),
        seeds=tuple(reader.file.seeds),
        cells=planned,
        tables=tables,
    )


def _salvage(document: Document) -> MatrixFile:
    """The parts of a broken file that fit the schema, so that their own mistakes are reported too."""
    tree = yamlfile.plain(document.tree)
    kept: dict[str, Any] = {}
    for key in MatrixFile.model_fields:
        if key in tree:
            try:
                MatrixFile.model_validate({key: tree[key]})
            except ValueError:
                continue
            kept[key] = tree[key]
    return MatrixFile.model_validate(kept)


@dataclass(slots=True)
class _Reader:
    """Turns the file's parts into cells, noting mistakes with their place."""

    document: Document
    file: MatrixFile
    origin: dict[Cell, Loc] = field(default_factory=dict)

    def cells(self) -> list[Cell]:
        found: dict[Cell, None] = {}
        excluded = [self._exclusion(("exclude", index), entry) for index, entry in enumerate(self.file.exclude)]
        hit = [False] * len(excluded)
        for point in self._product():
            cell = self._cell(("axes",) if self.file.axes else ("paired",), point, excluded)
            full = cell.point if cell else point
            hits = [index for index, entry in enumerate(excluded) if entry and _selects(entry, full)]
            for index in hits:
                hit[index] = True
            if cell and not hits:
                found[cell] = None
        for index, entry in enumerate(excluded):
            if entry and not hit[index]:
                self.document.mistake(("exclude", index), "this exclude entry matches no cell")
        for index, included in enumerate(self.file.include):
            found.update(dict.fromkeys(self._expand(("include", index), included)))
        return list(found)

    def _product(self) -> Iterator[dict[str, Scalar]]:
        if not self.file.axes and not self.file.paired:
            return
        factors: list[list[dict[str, Scalar]]] = []
        for name, values in self._checked(("axes",), self.file.axes).items():
            factors.append([{name: value} for value in values])
        for index, block in enumerate(self.file.paired):
            factors.append(list(self._zipped(("paired", index), block)))
        for combination in itertools.product(*factors):
            yield {name: value for part in combination for name, value in part.items()}

    def _zipped(self, loc: Loc, block: Mapping[str, list[Scalar]]) -> Iterator[dict[str, Scalar]]:
        lengths = {name: len(values) for name, values in block.items()}
        if len(set(lengths.values())) > 1:
            text = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            self.document.mistake(loc, f"paired axes need lists of equal length: {text}")
            return
        others = [*self.file.axes, *(name for other in self.file.paired if other is not block for name in other)]
        for name in block:
            if name in others:
                self.document.mistake((*loc, name), f"axis {name!r} is declared twice", key=True)
        checked = self._checked(loc, block)
        if all(name in checked and len(checked[name]) == lengths[name] for name in block):
            for row in zip(*checked.values(), strict=True):
                yield dict(zip(checked, row, strict=True))

    def _expand(self, loc: Loc, entry: Mapping[str, Scalar | list[Scalar]]) -> Iterator[Cell]:
        checked = self._checked(loc, entry)
        for row in itertools.product(*checked.values()):
            cell = self._cell(loc, dict(zip(checked, row, strict=True)), [])
            if cell:
                yield cell

    def _cell(self, loc: Loc, point: dict[str, Any], excluded: list[dict[str, list[Scalar]]]) -> Cell | None:
        try:
            cell = make_cell(point)
        except ValueError as error:
            if not any(entry and _selects(entry, point) for entry in excluded):
                self.document.mistake(loc, f"{error} (add an exclude entry, or drop the value)")
            return None
        self.origin.setdefault(cell, loc)
        return cell

    def _checked(self, loc: Loc, entry: Mapping[str, Any]) -> dict[str, list[Scalar]]:
        """Axis -> its values as a list, without what is unknown (noted as a mistake)."""
        known = {axis.name: axis for axis in axes.AXES}
        checked: dict[str, list[Scalar]] = {}
        for name, given in entry.items():
            if name == "because" and loc[0] == "exclude":
                continue
            if name not in known:
                text = f"unknown axis {name!r}{did_you_mean(name, known)}; expected {listed(known)}"
                self.document.mistake((*loc, name), text, key=True)
                continue
            values = given if isinstance(given, list) else [given]
            if not values:
                self.document.mistake((*loc, name), f"axis {name!r} has no values")
            places = [(*loc, name, i) if isinstance(given, list) else (*loc, name) for i in range(len(values))]
            kept = [v for v, where in zip(values, places, strict=True) if self._known_value(where, known[name], v)]
            for value in {v for v in kept if kept.count(v) > 1} if loc[0] != "paired" else ():
                self.document.mistake((*loc, name), f"axis {name!r} has {value!r} twice")
            checked[name] = kept
        return checked

    def _known_value(self, loc: Loc, axis: axes.Axis, value: Scalar) -> bool:
        try:
            axis.value(value)  # type: ignore[arg-type]
        except KeyError:
            valid = [entry.key for entry in axis.values]
            found = str(value).lower() if isinstance(value, bool) else repr(value)
            near = did_you_mean(str(value), [key for key in valid if isinstance(key, str)])
            self.document.mistake(loc, f"unknown {axis.name} {found}{near}; expected {listed(valid)}")
            return False
        return True

    def _exclusion(self, loc: Loc, entry: Mapping[str, Any]) -> dict[str, list[Scalar]]:
        """Axis -> the values to leave out; empty where the entry is broken."""
        checked = self._checked(loc, entry)
        names = [name for name in entry if name != "because"]
        if not names:
            self.document.mistake(loc, "an exclude entry needs at least one axis")
        return checked if len(checked) == len(names) and all(checked.values()) else {}

    def plan(self, cells: list[Cell]) -> Iterator[PlannedCell]:
        shared, label = self._fields(("recipe",), self.file.recipe)
        steps = [self._fields(("overrides", i, "recipe"), o.recipe) for i, o in enumerate(self.file.overrides)]
        resources = [
            self._resources(("overrides", i, "resources"), o.resources) for i, o in enumerate(self.file.overrides)
        ]
        used = [False] * len(self.file.overrides)
        for cell in cells:
            layers, asked = [(shared, label)], self.file.resources.model_dump()
            for index, override in enumerate(self.file.overrides):
                if _matches(override.cells, cell.name):
                    used[index] = True
                    layers.append(steps[index])
                    asked.update(resources[index])
            planned = self._planned(cell, layers, Resources.model_validate(asked))
            if planned is not None:
                yield planned
        for index, hit in enumerate(used):
            if cells and not hit:
                self.document.mistake(("overrides", index, "cells"), "this pattern matches no cell of the matrix")

    def _planned(
        self, cell: Cell, layers: list[tuple[dict[str, Any], str]], resources: Resources
    ) -> PlannedCell | None:
        base, suffix = cell.recipe(), ""
        merged: dict[str, Any] = {}
        for values, label in layers:
            changed = {name: value for name, value in values.items() if getattr(base, name) != value}
            merged.update(values)
            if changed:
                suffix += (
                    f"+{label}" if label else "".join(f"+{name}={_short(value)}" for name, value in changed.items())
                )
        try:
            recipe = with_overrides(base, merged)
        except UserError as error:
            self.document.mistake(("recipe",) if self.file.recipe else self.origin[cell], f"{cell.name}: {error}")
            return None
        if recipe.pretrained == axes.MISSING_WEIGHTS:
            text = (
                f"{cell.name}: no pretrained weights exist for it: exclude it, or override pretrained: {FROM_SCRATCH}"
            )
            self.document.mistake(self.origin[cell], text)
            return None
        shortening = Shortening(**self.file.shorten.model_dump())
        return PlannedCell(cell=cell, recipe=recipe, suffix=suffix, shortening=shortening, resources=resources)

    def _fields(self, loc: Loc, given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """Recipe fields, parsed, and the label of their block."""
        values = dict(given)
        label = values.pop("label", "")
        if not isinstance(label, str) or (label and not NAME.fullmatch(label)):
            self.document.mistake((*loc, "label"), f"label {label!r} must be letters, digits, '.', '_' or '-'")
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
        return parsed, str(label)

    def _resources(self, loc: Loc, given: Mapping[str, Any]) -> dict[str, Any]:
        valid = Resources.model_fields
        kept: dict[str, Any] = {}
        for name, value in given.items():
            if name not in valid:
                text = f"unknown key {name!r}{did_you_mean(name, valid)}; expected {listed(valid)}"
                self.document.mistake((*loc, name), text, key=True)
                continue
            try:
                Resources.model_validate({name: value})
                kept[name] = value
            except ValueError:
                self.document.mistake((*loc, name), f"{name} is {value!r}, expected a whole number in range")
        return kept

    def tables(self, planned: tuple[PlannedCell, ...]) -> tuple[Table, ...]:
        tables = []
        for index, table in enumerate(self.file.tables):
            loc: Loc = ("tables", index, "cells")
            if isinstance(table.cells, dict):
                checked = self._checked(loc, table.cells)
                rows = [entry for entry in planned if _selects(checked, entry.cell.point)]
            else:
                patterns = [table.cells] if isinstance(table.cells, str) else table.cells
                rows = list(dict.fromkeys(e for pattern in patterns for e in planned if _matches(pattern, e.cell.name)))
            if planned and not rows and not self.document.mistakes:
                self.document.mistake(loc, f"table {table.title!r} selects no cell of the matrix")
            tables.append(Table(title=table.title, rows=tuple(entry.name for entry in rows)))
        return tuple(tables)


def _selects(entry: Mapping[str, Any], point: Mapping[str, Any]) -> bool:
    return all(point.get(name) in values for name, values in entry.items())


def _matches(patterns: str | list[str], name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, p) for p in ([patterns] if isinstance(patterns, str) else patterns))


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return ("x" if value and not isinstance(value[0], tuple) and len(value) == 2 else ",").join(map(_short, value))
    return re.sub(r"[^A-Za-z0-9._,-]+", "_", str(value))
