"""A run in MLflow's words: params, tags, note, metrics, data sets. Pure functions of what the run folder says."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from harness.recipe import to_dict
from harness.runs import RunSpec, RunState, SplitSpec, State

TAG_CHARACTERS = 5000
PARAM_CHARACTERS = 6000
DIGEST_CHARACTERS = 36
WINDOWS = 300
"""Of a train log MLflow gets the first row of every window of w iterations, w being the largest power of two that is at

most step / WINDOWS (at least 1): every row at first, then rows that lie 1/300 to 1/600 of the step apart. Whatever the
log interval, a run of 1,000,000 iterations has at most 3,900 such rows of about 12 values: less than 50,000 points. Val
rows are all kept, and log.json, an artifact of the run, holds every row.
"""

STATUS = {
    State.QUEUED: "SCHEDULED",
    State.RUNNING: "RUNNING",
    State.FINISHED: "FINISHED",
    State.FAILED: "FAILED",
    State.KILLED: "KILLED",
}
"""MLflow's word for a state."""


class Point(NamedTuple):
    """One value of a metric."""

    key: str
    value: float
    timestamp: int  # milliseconds since 1970
    step: int  # optimiser iterations since the start of the run


def params(spec: RunSpec) -> dict[str, str]:
    """The executed recipe, field by field, the axes as axis.NAME, the seed and the executed precision.

    A text that MLflow would cut is replaced by a pointer to the artifact that has it whole.
    """
    values = {f"axis.{name}": value for name, value in spec.axes.items()}
    values |= to_dict(spec.executed) | {"seed": spec.seed, "executed_precision": spec.precision}
    return {name: _whole(text(value)) for name, value in values.items()}


def text(value: Any) -> str:
    """A text as it is, anything else as compact JSON."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _whole(value: str) -> str:
    return value if len(value) <= PARAM_CHARACTERS else f"in config.json ({len(value)} characters)"


def tags(spec: RunSpec, state: RunState, env: Mapping[str, Any], result: Mapping[str, Any] | None) -> dict[str, str]:
    """What identifies the run, where it stands and what it ran on.

    env: `env_info` of the newest attempt's journal line; its "git" and "versions" hold until result.json tells them.
    result: result.json of a finished run.
    """
    known = {**env, **(result or {})}
    git = known.get("git") or {}
    commit = {"mlflow.source.git.commit": git["commit"], "harness.git_commit": git["commit"]} if git else {}
    values = {
        **{f"axis.{name}": value for name, value in spec.axes.items()},
        "harness.schema": spec.schema,
        "harness.experiment": spec.experiment,
        "harness.cell": spec.cell,
        "harness.name": spec.name,
        "harness.seed": spec.seed,
        "harness.identity": spec.identity,
        "harness.numerics": spec.numerics,
        "harness.published": spec.published,
        "harness.full": spec.full,
        "harness.precision": spec.precision,
        "harness.recipe_precision": spec.recipe.precision,
        "harness.shortening": spec.shortening.describe(),
        "harness.train_digest": spec.train.digest,
        "harness.val_digest": spec.val.digest,
        **commit,
        **({"harness.git_dirty": git["dirty"]} if git else {}),
        **{f"harness.version.{name}": value for name, value in (known.get("versions") or {}).items() if value},
        "harness.state": state.state.value,
        "harness.attempt": state.attempt,
        "harness.reason": state.reason[:TAG_CHARACTERS],
        "harness.host": state.host,
        "harness.progress": state.progress,
        "mlflow.note.content": note(spec, state, result),
    }
    plain = {name: text(value) for name, value in values.items()}
    if result is None:
        return plain
    outcome = {name: value for name, value in result.items() if name not in ("metrics", "files")}
    return plain | split("harness.result", outcome) | split("harness.files", result["files"])


def split(name: str, value: Any) -> dict[str, str]:
    """A JSON value as the tags NAME, NAME.1, NAME.2 ..., as many as its length needs."""
    whole = text(value)
    pieces = [whole[start : start + TAG_CHARACTERS] for start in range(0, len(whole), TAG_CHARACTERS)]
    return {f"{name}.{index}" if index else name: piece for index, piece in enumerate(pieces)}


def joined(name: str, found: Mapping[str, str]) -> Any:
    """The JSON value that `split` put into tags, or None."""
    if name not in found:
        return None
    pieces = [found[name]]
    while (piece := found.get(f"{name}.{len(pieces)}")) is not None:
        pieces.append(piece)
    return json.loads("".join(pieces))


def note(spec: RunSpec, state: RunState, result: Mapping[str, Any] | None) -> str:
    """The description that the MLflow page of a run opens with (Markdown)."""
    kind = "published recipe" if spec.published and not spec.suffix else "derived recipe"
    lines = [f"**{spec.name}**, seed {spec.seed}, {kind}, {spec.precision}."]
    if spec.shortening:
        lines.append(f"Shortened ({spec.shortening.describe()}): not a result of the full recipe.")
    if spec.precision != spec.recipe.precision:
        lines.append(f"The recipe asks for {spec.recipe.precision}; this device ran {spec.precision}.")
    if result is None:
        doing = f"{state.state.value.lower()}, attempt {state.attempt}"
        lines.append(", ".join(part for part in (doing, state.progress, state.reason[:1000]) if part) + ".")
    else:
        lines.append(_outcome(result))
    return "\n\n".join(lines)


def _outcome(result: Mapping[str, Any]) -> str:
    numbers = {"box AP": result["metrics"].get("bbox_mAP"), "mask AP": result["metrics"].get("segm_mAP")}
    scores = [f"{name} {100 * value:.1f}" for name, value in numbers.items() if value is not None]
    hardware = result["hardware"]
    length = f"{result['iterations']} iterations on {hardware['count']} x {hardware['device']}"
    return ", ".join([*scores, length]) + "."


def window(step: int) -> tuple[int, int]:
    """The thinning window (its width and its number) that holds a step of the train log."""
    width = 1 << max(0, (step // WINDOWS).bit_length() - 1)
    return width, step // width


def row_key(row: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """What only one row may carry to MLflow: a train row its window, a val row its step; None for other rows."""
    match row.get("mode"):
        case "train":
            return ("train", *window(int(row["step"])))
        case "val":
            return ("val", int(row["step"]))
    return None


def points(row: Mapping[str, Any]) -> list[Point]:
    """The numbers of a train or val row of the journal: train/NAME, val/NAME, and the plain epoch of a train row.

    What is not finite becomes NaN, as MLflow would draw an infinity as 1.8e308.
    """
    mode, step, timestamp = row["mode"], int(row["step"]), round(row["stamp"] * 1000)
    return [
        Point("epoch" if (mode, name) == ("train", "epoch") else f"{mode}/{name}", finite(value), timestamp, step)
        for name, value in row.items()
        if name not in ("iter", "step", "stamp") and _is_number(value)
    ]


def result_points(result: Mapping[str, Any], timestamp: int) -> list[Point]:
    """What a finished run measured: memory_gb, fps, images_per_second, train_seconds; absent where not measured."""
    memory = result.get("memory_mb")
    values = {
        "memory_gb": None if memory is None else memory / 1024,
        "fps": result.get("fps"),
        "images_per_second": result.get("images_per_second"),
        "train_seconds": result.get("train_seconds"),
    }
    step = int(result["iterations"])
    return [Point(name, finite(value), timestamp, step) for name, value in values.items() if value is not None]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def finite(value: float) -> float:
    """The number, or NaN for an infinity."""
    return float(value) if math.isfinite(value) else math.nan


def dataset(name: str, part: str, split: SplitSpec) -> dict[str, str]:
    """The fields of an MLflow data set: NAME-train or NAME-val with the start of its annotations' digest."""
    source = json.dumps({"images": split.images, "annotations": split.annotations})
    return {
        "name": f"{name}-{part}",
        "digest": split.digest[:DIGEST_CHARACTERS],
        "source_type": "local",
        "source": source,
        "profile": json.dumps({"annotations_digest": split.digest}),
    }


def per_class_table(classes: Iterable[Mapping[str, Any]]) -> str:
    """evaluation.json's per-class numbers as CSV, AP as fractions, "-" where there was no ground truth."""
    columns = ("id", "name", "instances", "bbox", "segm")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["-" if row.get(name) is None else row[name] for name in columns] for row in classes)
    return out.getvalue()
