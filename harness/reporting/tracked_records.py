"""The records of runs that MLflow has tracked."""

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.recipe import Recipe, to_dict
from harness.reporting.records import HISTORY, EpochAP, FileRecord, Hardware, Record, ordered
from harness.run_spec import Origin

if TYPE_CHECKING:
    from harness.tracking.query import TrackedRun

CURVES = ("val/epoch", *(f"val/{name}" for name in HISTORY))
"""The metrics of which a record wants all values."""

Value = TypeVar("Value")


def from_tracking(uri: str, experiment: str, *, cache: Path | None = None) -> list[Record]:
    """The records of an experiment's runs in an MLflow store, with the files' paths as the runs gave them.

    cache: a folder, which may be deleted, for what has been read, so that the next reading brings only what is new.
    Raises UserError where there is no such store or experiment.
    """
    from harness.tracking.reading import read

    return list(ordered(map(of_tracked, read(uri, experiment, CURVES, cache=cache))))


def of_tracked(run: "TrackedRun") -> Record:
    """The record of one MLflow run, read with its CURVES."""
    tags, metrics, result, recipe = run.tags, run.metrics, run.result or {}, _recipe(run.params)
    state = tags["harness.state"]
    return Record(
        cell=tags["harness.cell"],
        name=tags["harness.name"],
        axes={name: _axis_value(text) for name, text in _below("axis.", tags).items()},
        seed=int(tags["harness.seed"]),
        key=tags["harness.key"],
        identity=tags["harness.identity"],
        numerics=int(tags["harness.numerics"]),
        run_id=run.run_id,
        started=round(run.start * 1000),
        state=state,
        reason=tags.get("harness.reason", ""),
        origin=tags.get("harness.origin", Origin.TRAINED.value),
        full=tags["harness.full"] == "true",
        shortening=tags.get("harness.shortening", ""),
        precision=tags["harness.precision"],
        recipe_precision=tags["harness.recipe_precision"],
        recipe=recipe,
        epoch=int(metrics.get("val/epoch" if state == "FINISHED" else "epoch", 0)),
        epochs=int(recipe["epochs"]),
        metrics={
            name: value
            for name, value in _below("val/", metrics).items()
            if name.startswith(("bbox_", "segm_")) and math.isfinite(value)
        },
        history=_epochs(run.history),
        memory_gb=_finite(metrics.get("memory_gb")),
        memory_kind=result.get("memory_kind"),
        fps=_finite(metrics.get("fps")),
        fps_images=result.get("fps_images"),
        gpu_hours=_finite(metrics.get("gpu_hours")),
        overhead=_finite(metrics.get("overhead")),
        hardware=_hardware(result.get("hardware")),
        versions=_below("harness.version.", tags),
        commit=tags.get("harness.git_commit", ""),
        dirty=tags.get("harness.git_dirty") == "true",
        codes=tuple(filter(None, tags.get("harness.codes", "").split(","))),
        evaluation_library=result.get("evaluation_library", ""),
        annotations={p: tags[key] for p in ("train", "val") if (key := f"harness.{p}_digest") in tags},
        files={role: FileRecord(**file) for role, file in sorted((run.files or {}).items())},
    )


def _below(prefix: str, values: Mapping[str, Value]) -> dict[str, Value]:
    """The entries whose names start with the prefix, without it, by name."""
    return {name.removeprefix(prefix): values[name] for name in sorted(values) if name.startswith(prefix)}


def _epochs(history: Mapping[str, Sequence[tuple[int, float]]]) -> tuple[EpochAP, ...]:
    values = {name: dict(history.get(name, ())) for name in CURVES}
    return tuple(
        EpochAP(epoch=int(epoch), **{name: _finite(values[f"val/{name}"].get(step)) for name in HISTORY})
        for step, epoch in sorted(values["val/epoch"].items())
    )


def _hardware(plain: Mapping[str, Any] | None) -> Hardware | None:
    return Hardware(kind=plain["kind"], device=plain["device"], count=plain["count"]) if plain else None


def _axis_value(text: str) -> str | bool:
    return {"true": True, "false": False}.get(text, text)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _recipe(params: Mapping[str, str]) -> dict[str, Any]:
    """The executed recipe from MLflow's params, where texts stand as they are and other values as JSON."""
    defaults = _defaults()
    others = ("seed", "executed_precision")
    return {
        name: text if isinstance(defaults.get(name), str) else _parsed(text)
        for name, text in sorted(params.items())
        if name not in others and not name.startswith("axis.")
    }


@lru_cache
def _defaults() -> dict[str, Any]:
    return to_dict(Recipe())


@lru_cache(maxsize=4096)  # the runs of an experiment have most of their recipes in common
def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
