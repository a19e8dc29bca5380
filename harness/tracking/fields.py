"""A run in MLflow's words: params, tags, data sets. Pure functions of what the run folder says."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from harness.provenance import trained_by
from harness.recipe import to_dict
from harness.run_spec import Origin, RunSpec, SplitSpec
from harness.tracking.note import note, waiting
from harness.tracking.snapshot import Snapshot

COMMANDS = {
    Origin.TRAINED: "train",
    Origin.PUBLISHED: "submit --published-checkpoints",
    Origin.PILOT: "submit --pilot",
    Origin.IMPORTED: "import",
    Origin.BENCHMARK: "benchmark",
}
TAG_CHARACTERS = 5000
PARAM_CHARACTERS = 6000
DIGEST_CHARACTERS = 36


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


def tags(seen: Snapshot) -> dict[str, str]:
    """What identifies the run, where it stands and what it ran on.

    "code" and "versions" of the newest attempt's journal line hold until result.json tells them.
    """
    spec, state, result = seen.spec, seen.state, seen.result
    known = {**seen.env, "code": seen.code, **(result or {})}
    code, codes = known["code"] or {}, trained_by(seen.journal)
    commit = code.get("commit")
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
        "harness.origin": spec.origin.value,
        "harness.full": spec.full and len(codes) < 2,
        "harness.precision": spec.precision,
        "harness.recipe_precision": spec.recipe.precision,
        "harness.shortening": spec.shortening.describe(),
        **{f"harness.{part}_digest": split.digest for part, split in spec.splits.items()},
        "harness.codes": ",".join(codes),
        **({"mlflow.source.git.commit": commit, "harness.git_commit": commit} if commit else {}),
        **({"harness.git_dirty": code["dirty"]} if code else {}),
        **{f"harness.version.{name}": value for name, value in (known.get("versions") or {}).items() if value},
        "harness.state": state.state.value,
        "harness.attempt": state.attempt,
        "harness.reason": state.reason[:TAG_CHARACTERS],
        "harness.waiting": waiting(state),
        "harness.host": state.host,
        "harness.hosts": ", ".join(f"node{node}: {host}" for node, host in sorted(seen.nodes.items())),
        "harness.folder": str(seen.paths.folder),
        "harness.progress": state.progress,
        "mlflow.source.name": f"harness {COMMANDS[spec.origin]} {spec.cell}",
        "mlflow.note.content": note(spec, state, result, seen.paths.folder),
    }
    if (trial := seen.trial) is not None:
        values |= {"harness.study": trial.study, "harness.trial": trial.number}
        values |= {"harness.pruned": trial.pruned} if trial.pruned and result is None else {}
    plain = {name: text(value) for name, value in values.items()}
    if seen.benchmark is not None:
        plain["harness.benchmark_device"] = seen.benchmark["hardware"]["device"]
        plain |= split("harness.benchmark", seen.benchmark)
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
