"""The best trials of a study, and the matrix file that trains one of them at full length."""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import write_text
from harness.matrix import PlannedCell
from harness.matrix_file import NAME
from harness.recipe import Recipe, diff, to_dict, with_overrides
from harness.run_spec import read_spec
from harness.tuning.study_file import Study
from harness.tuning.trials import Trial


def finished(found: Sequence[Trial]) -> list[tuple[Trial, tuple[float, ...]]]:
    """The trials that came to their end, each with its values."""
    return [(trial, trial.values) for trial in found if trial.values is not None]


def front(study: Study, found: Sequence[Trial]) -> list[Trial]:
    """The finished trials that none beats in one objective without being worse in another, the best of the first one

    first. Of a single objective the best trial alone. Of equal ones the earlier trial goes first.
    """
    scored = [(_costs(study, values), trial.number, trial) for trial, values in finished(found)]
    kept = [entry for entry in scored if not any(_beats(other[0], entry[0]) for other in scored)]
    ordered = [trial for _, _, trial in sorted(kept, key=lambda entry: entry[:2])]
    return ordered if len(study.objectives) > 1 else ordered[:1]


def _costs(study: Study, values: Sequence[float]) -> tuple[float, ...]:
    """The values with signs such that less is better."""
    pairs = zip(study.objectives, values, strict=True)
    return tuple(-value if objective.direction == "maximize" else value for objective, value in pairs)


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def winner(study: Study, found: Sequence[Trial], number: int | None = None) -> Trial:
    """Trial `number`; None: the best by the first objective.

    Raises UserError where that trial has not finished, or none has.
    """
    done = {trial.number: trial for trial, _ in finished(found)}
    if number is not None and number not in done:
        there = f"finished are {', '.join(map(str, done))}" if done else "none has finished yet"
        raise UserError(f"{study.path}: no finished trial {number}; {there}")
    if not done:
        raise UserError(f"{study.path}: no trial has finished yet; harness tune {study.path} runs them")
    return front(study, found)[0] if number is None else done[number]


def cell_of(study: Study, trial: Trial) -> PlannedCell:
    """The cell of a trial, as its run has it."""
    spec = read_spec(trial.paths)
    return dataclasses.replace(study.base, recipe=spec.recipe, suffix=spec.suffix)


def scores(study: Study, values: Sequence[float]) -> str:
    """The values of a trial, such as "segm AP 31.2, fps 16.1"."""
    named = zip(study.objectives, values, strict=True)
    return ", ".join(f"{objective.metric} {objective.shown(value)}" for objective, value in named)


def write_matrix(study: Study, trial: Trial, output: Path) -> None:
    """Write the matrix file that trains a finished trial's recipe at full length.

    Raises UserError where another file is there already.
    """
    text = matrix(study, trial)
    if output.exists() and output.read_bytes() != text.encode():
        raise UserError(f"{output}: there already, with other content; nothing is written: name another file")
    write_text(output, text)


def matrix(study: Study, trial: Trial) -> str:
    """The text of that file: the study's base without its shortening, and above it what the trial changed."""
    own, recipe = study.base.cell.recipe(), cell_of(study, trial).recipe
    changed = {name: value for name, (_, value) in _plain_diff(study.base.recipe, recipe).items()}
    plain: dict[str, Any] = {
        "name": f"{study.name[:58]}-best",
        "description": f"Trial {trial.number} of the study {study.name}, at full length",
        "include": [study.base.cell.point],
    }
    if base := _overrides(own, study.base.recipe):
        label = study.base.suffix.removeprefix("+")
        plain["recipe"] = ({"label": label} if NAME.fullmatch(label) else {}) | base
    if changed:
        plain["overrides"] = [{"cells": "*", "recipe": {"label": f"trial{trial.number:03d}"} | changed}]
    resources = study.base.resources.model_dump(exclude_defaults=True, exclude={"minutes"})
    return _comment(study, trial) + _yaml(plain | ({"resources": resources} if resources else {}))


def _overrides(own: Recipe, recipe: Recipe) -> dict[str, Any]:
    """The fields to override in a cell's own recipe so that it becomes `recipe`, without those that others imply."""
    wanted = {name: value for name, (_, value) in diff(own, recipe).items()}
    for name in list(wanted):
        fewer = {other: value for other, value in wanted.items() if other != name}
        if _becomes(own, fewer, recipe):
            wanted = fewer
    plain = to_dict(recipe)
    return {name: plain[name] for name in wanted}


def _becomes(own: Recipe, overrides: dict[str, Any], recipe: Recipe) -> bool:
    try:
        return with_overrides(own, overrides) == recipe
    except UserError:
        return False


def _plain_diff(one: Recipe, other: Recipe) -> dict[str, tuple[Any, Any]]:
    before, after = to_dict(one), to_dict(other)
    return {name: (before[name], after[name]) for name in diff(one, other)}


def _comment(study: Study, trial: Trial) -> str:
    short = study.base.shortening.describe()
    lines = [f"Trial {trial.number} of the study {study.name}: {scores(study, trial.values or ())}."]
    lines += [f"That was shortened ({short}); this is the whole recipe."] if short else []
    lines += ["One of many noisy trials looks better than it is: the study's report has it measured again."]
    return "".join(f"# {line}\n" for line in lines)


def _yaml(plain: dict[str, Any]) -> str:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = io.StringIO()
    yaml.dump(plain, text)
    return text.getvalue()
