"""One cell as a run of its own, for `harness train`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.cell import parse_name
from harness.errors import UserError
from harness.launching.prepare import PreparedRun, prepare
from harness.matrix import Experiment, PlannedCell, field_texts
from harness.matrix_file import Resources
from harness.recipe import field_names, parse_value, with_overrides
from harness.settings import Settings
from harness.shortening import Shortening
from harness.wording import did_you_mean

SINGLE = "single"
"""The experiment of cells that are trained without a matrix file."""


def single_run(
    cell: str,
    settings: Settings,
    *,
    experiment: Experiment | None,
    seed: int | None,
    batch: int | None,
    overrides: Sequence[str],
) -> PreparedRun:
    """The run of one cell: as the experiment has it, or by its name alone, with further overrides (FIELD=VALUE).

    batch: another total batch, with the learning rate scaled to it.
    Raises UserError for an unknown name, field or value, and for missing data or weights.
    """
    planned = experiment.find(cell) if experiment else _plain(cell)
    seeds = experiment.seeds if experiment else (0,)
    values = parse_overrides(overrides)
    if batch is not None:
        values = {"batch": batch, "lr": planned.recipe.lr * batch / planned.recipe.batch} | values
    changed = {name: value for name, value in values.items() if getattr(planned.recipe, name) != value}
    planned = replace(
        planned,
        recipe=with_overrides(planned.recipe, values),
        suffix="".join([planned.suffix, *(f"+{text}" for text in field_texts(changed))]),
    )
    alone = Experiment(
        name=experiment.name if experiment else SINGLE,
        description=experiment.description if experiment else "Cells trained one by one",
        path=experiment.path if experiment else Path(),
        seeds=(seeds[0] if seed is None else seed,),
        cells=(planned,),
        tables=(),
    )
    return prepare(alone, settings)[0]


def _plain(name: str) -> PlannedCell:
    cell = parse_name(name)
    return PlannedCell(cell=cell, recipe=cell.recipe(), suffix="", shortening=Shortening(), resources=Resources())


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """Recipe fields from FIELD=VALUE texts; values are YAML, such as lr=0.01 or lr_steps=[8,11]."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML(typ="safe", pure=True)
    values: dict[str, Any] = {}
    for text in texts:
        name, found, value = text.partition("=")
        if not found:
            raise UserError(f"--set {text}: expected FIELD=VALUE, such as lr=0.01")
        if name not in field_names():
            raise UserError(f"--set {text}: unknown recipe field {name!r}{did_you_mean(name, field_names())}")
        try:
            values[name] = parse_value(name, yaml.load(value))
        except YAMLError as error:
            raise UserError(f"--set {text}: not YAML: {str(error).splitlines()[0]}") from None
        except ValueError as error:
            raise UserError(f"--set {text}: {error}") from None
    return values
