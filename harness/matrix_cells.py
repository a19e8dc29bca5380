"""The axes, pairs, inclusions and exclusions of a matrix file become its cells."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness import axes
from harness.cell import Cell, make_cell
from harness.document import Document, Loc
from harness.matrix_file import MatrixFile, Scalar
from harness.wording import did_you_mean, listed, shown


@dataclass(slots=True)
class CellReader:
    """Turns axes and their values into cells, noting mistakes with their place."""

    document: Document
    file: MatrixFile
    sound: bool  # the cells are those that the file means, so that "matches no cell" is no consequence of a mistake
    origin: dict[Cell, Loc] = field(default_factory=dict)  # where the file asks for a cell

    def cells(self) -> list[Cell]:
        """The cells of the matrix, each once: the product of axes and paired without exclude, then include."""
        found: dict[Cell, None] = {}
        excluded = [self._exclusion(("exclude", index), entry) for index, entry in enumerate(self.file.exclude)]
        hit = [False] * len(excluded)
        for point in self._product():
            cell = self._cell(("axes",) if self.file.axes else ("paired",), point, excluded)
            full = cell.point if cell else point
            hits = [index for index, entry in enumerate(excluded) if entry and selects(entry, full)]
            for index in hits:
                hit[index] = True
            if cell and not hits:
                found[cell] = None
        for index, included in enumerate(self.file.include):
            found.update(dict.fromkeys(self._expand(("include", index), included)))
        self.sound = self.sound and not self.document.mistakes
        for index, entry in enumerate(excluded):
            if self.sound and entry and not hit[index]:
                self.document.mistake(("exclude", index), "this exclude entry matches no cell")
        return list(found)

    def _product(self) -> Iterator[dict[str, Scalar]]:
        if not self.file.axes and not self.file.paired:
            return
        factors: list[list[dict[str, Scalar]]] = []
        for name, values in self.checked(("axes",), self.file.axes).items():
            factors.append([{name: value} for value in values])
        for index, block in enumerate(self.file.paired):
            factors.append(list(self._zipped(("paired", index), block)))
        for combination in itertools.product(*factors):
            yield {name: value for part in combination for name, value in part.items()}

    def _zipped(self, loc: Loc, block: Mapping[str, list[Scalar]]) -> Iterator[dict[str, Scalar]]:
        lengths = {name: len(values) for name, values in block.items()}
        if not lengths and self.sound:
            self.document.mistake(loc, "a paired block needs at least one axis")
        if len(set(lengths.values())) > 1:
            text = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            self.document.mistake(loc, f"paired axes need lists of equal length: {text}")
            return
        others = [*self.file.axes, *(name for other in self.file.paired if other is not block for name in other)]
        for name in block:
            if name in others:
                self.document.mistake((*loc, name), f"axis {name!r} is declared twice", key=True)
        checked = self.checked(loc, block)
        if all(name in checked and len(checked[name]) == lengths[name] for name in block):
            for row in zip(*checked.values(), strict=True):
                yield dict(zip(checked, row, strict=True))

    def _expand(self, loc: Loc, entry: Mapping[str, Scalar | list[Scalar]]) -> Iterator[Cell]:
        checked = self.checked(loc, entry)
        for row in itertools.product(*checked.values()):
            cell = self._cell(loc, dict(zip(checked, row, strict=True)), [])
            if cell:
                yield cell

    def _cell(self, loc: Loc, point: dict[str, Any], excluded: list[dict[str, list[Scalar]]]) -> Cell | None:
        try:
            cell = make_cell(point)
        except ValueError as error:
            if not any(entry and selects(entry, point) for entry in excluded):
                self.document.mistake(loc, f"{error} (add an exclude entry, or drop the value)")
            return None
        self.origin.setdefault(cell, loc)
        return cell

    def checked(self, loc: Loc, entry: Mapping[str, Any]) -> dict[str, list[Scalar]]:
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
            near = did_you_mean(str(value), [key for key in valid if isinstance(key, str)])
            self.document.mistake(loc, f"unknown {axis.name} {shown(value)}{near}; expected {listed(valid)}")
            return False
        return True

    def _exclusion(self, loc: Loc, entry: Mapping[str, Any]) -> dict[str, list[Scalar]]:
        """Axis -> the values to leave out; empty where the entry is broken."""
        checked = self.checked(loc, entry)
        names = [name for name in entry if name != "because"]
        if not names and self.sound:
            self.document.mistake(loc, "an exclude entry needs at least one axis")
        return checked if len(checked) == len(names) and all(checked.values()) else {}


def selects(entry: Mapping[str, Any], point: Mapping[str, Any]) -> bool:
    """Whether a point has, of each axis of the entry, one of its values."""
    return all(point.get(name) in values for name, values in entry.items())
