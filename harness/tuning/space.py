"""What is searched: recipe fields and their ranges or choices, and the way from an optimiser's values to a recipe."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.document import Document, Loc
from harness.errors import UserError
from harness.recipe import Recipe, field_names, parse_value, with_overrides
from harness.tuning.study_schema import RangeBlock
from harness.wording import did_you_mean, shown

Param = bool | int | float | str
"""A value as an optimiser has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The numbers of a field from low to high, both included."""

    field: str
    low: float
    high: float
    step: float | None = None
    log: bool = False
    whole: bool = False

    def __str__(self) -> str:
        step = f" in steps of {self.step:g}" if self.step else ""
        return f"{self.low:g} to {self.high:g}{step}{', log' if self.log else ''}{', whole' if self.whole else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Some values of a field, as the recipe has them."""

    field: str
    values: tuple[Any, ...]

    @property
    def params(self) -> tuple[Param, ...]:
        """The values as an optimiser has them."""
        return tuple(map(param_of, self.values))

    def __str__(self) -> str:
        return "one of " + ", ".join(str(param) for param in self.params)


Dimension = Range | Choice


def param_of(value: Any) -> Param:
    """A recipe's value as an optimiser has it: lists as JSON."""
    return json.dumps(value) if isinstance(value, tuple | list) else value


def edits(space: Sequence[Dimension], params: Mapping[str, Param]) -> dict[str, Any]:
    """The values of the searched recipe fields for an optimiser's.

    Raises UserError where they are of another search.
    """
    if params.keys() != {dimension.field for dimension in space}:
        raise UserError(f"trials of {', '.join(params)} are of another search; give this one a name of its own")
    return {dimension.field: _edit(dimension, params[dimension.field]) for dimension in space}


def _edit(dimension: Dimension, param: Param) -> Any:
    if isinstance(dimension, Range):
        return parse_value(dimension.field, param)
    if param not in dimension.params:
        raise UserError(f"a trial with {dimension.field} {param} is of another search; give this one a name of its own")
    return dimension.values[dimension.params.index(param)]


def contains(dimension: Dimension, value: Any) -> bool:
    """Whether a recipe's value is among those that are searched."""
    if isinstance(dimension, Choice):
        return value in dimension.values
    if isinstance(value, bool) or not isinstance(value, int | float) or not dimension.low <= value <= dimension.high:
        return False
    if dimension.step is None:
        return True
    steps = (value - dimension.low) / dimension.step
    return abs(steps - round(steps)) < 1e-6


def parse_space(
    document: Document, search: Mapping[str, RangeBlock | list[Any]], base: Recipe | None
) -> tuple[Dimension, ...]:
    """The dimensions of a file's `search`; what is wrong is noted in the document.

    base: the recipe that is varied; None where it is not known, as the file has mistakes elsewhere.
    """
    if not search:
        document.mistake(("search",), "search is empty: name a recipe field and its range or values")
    found: list[Dimension | None] = []
    for name, entry in search.items():
        loc: Loc = ("search", name)
        if name not in field_names():
            near = did_you_mean(name, field_names())
            document.mistake(loc, f"unknown recipe field {name!r}{near} (harness show CELL lists them)", key=True)
        elif isinstance(entry, RangeBlock):
            found.append(_range(document, loc, name, entry, base or Recipe()))
        else:
            found.append(_choice(document, loc, name, entry))
    space = tuple(dimension for dimension in found if dimension)
    if base is not None:
        for dimension in space:
            _try(document, dimension, base)
    return space


def _range(document: Document, loc: Loc, name: str, entry: RangeBlock, base: Recipe) -> Range | None:
    value = getattr(base, name)
    if isinstance(value, bool | str | tuple):
        document.mistake(loc, f"{name} is {shown(value)}, no number: give a list of values")
        return None
    whole = entry.integer or isinstance(value, int)
    for text in _range_faults(entry, whole=whole):
        document.mistake(loc, f"{name}: {text}")
        return None
    convert = int if whole else float
    low, high = convert(entry.low), convert(entry.high)
    for key, edge in (("low", low), ("high", high)):
        try:
            parse_value(name, edge)
        except ValueError as error:
            document.mistake((*loc, key), str(error))
            return None
    step = None if entry.step is None else convert(entry.step)
    return Range(field=name, low=low, high=high, step=step, log=entry.log, whole=whole)


def _range_faults(entry: RangeBlock, *, whole: bool) -> Iterable[str]:
    numbers = [number for number in (entry.low, entry.high, entry.step) if number is not None]
    if entry.low >= entry.high:
        yield f"low {entry.low:g} is not below high {entry.high:g}"
    if entry.log and entry.low <= 0:
        yield f"a log range starts above 0, not at {entry.low:g}"
    if entry.log and entry.step is not None:
        yield "a log range has no step"
    if entry.step is not None and not 0 < entry.step <= entry.high - entry.low:
        yield f"step {entry.step:g} must be above 0 and at most high - low"
    if whole and any(number != int(number) for number in numbers):
        yield "low, high and step must be whole numbers"


def _choice(document: Document, loc: Loc, name: str, entry: list[Any]) -> Choice | None:
    values = []
    for index, value in enumerate(entry):
        try:
            values.append(parse_value(name, value))
        except ValueError as error:
            document.mistake((*loc, index), str(error))
    if len(values) == len(entry) and len(set(values)) < max(2, len(values)):
        document.mistake(loc, f"{name} needs two values or more, none of them twice")
    return Choice(field=name, values=tuple(values)) if len(values) == len(entry) and values else None


def _try(document: Document, dimension: Dimension, base: Recipe) -> None:
    """Note where values, each alone in the base recipe, contradict it; of a range its ends, and one beside them."""
    if isinstance(dimension, Choice):
        values: list[Any] = list(dimension.values)
    else:
        beside = [dimension.low + (dimension.step or 1)] if dimension.step or dimension.whole else []
        values = [dimension.low, *beside, dimension.high]
    for value in values:
        try:
            with_overrides(base, {dimension.field: parse_value(dimension.field, value)})
        except (UserError, ValueError) as error:
            document.mistake(("search", dimension.field), f"{dimension.field}: {error}")
            return
