"""A run's checkpoints as MLflow's logged models: where the file is and its sha256, with what it scored. No copies."""

import re
from pathlib import Path
from typing import Any

from harness.run_paths import RunPaths
from harness.tracking import fields
from harness.tracking.points import points
from harness.tracking.snapshot import Snapshot
from harness.tracking.store import pages

EXTERNAL = {"mlflow.model.isExternal": "true"}
"""MLflow's tag of a model whose files are elsewhere."""


def log_checkpoints(client: Any, experiment_id: str, run_id: str, seen: Snapshot) -> None:
    """Make the evaluated checkpoints that are still on disk the run's logged models, and only those.

    Each is created once, found again by its run and sha256; its metrics are those of its validation.
    """
    there = {row["checkpoint_sha256"]: (row, file) for row, file in _kept(seen)}
    known: dict[str, Any] = {}
    for model in pages(client.search_logged_models, [experiment_id], f"source_run_id = '{run_id}'"):
        if known.setdefault(model.params["sha256"], model) is not model or model.params["sha256"] not in there:
            client.delete_logged_model(model.model_id)
    for checksum, (row, file) in there.items():
        model = known.get(checksum) or _create(client, experiment_id, run_id, seen, row, file)
        if model.status != "READY":
            _score(client, run_id, model.model_id, seen, row)


def _kept(seen: Snapshot) -> list[tuple[dict[str, Any], Path]]:
    """(val row, checkpoint), of several rows of a step the first one."""
    rows: dict[int, dict[str, Any]] = {}
    for row in seen.rows:
        if row.get("mode") == "val" and "checkpoint_sha256" in row:
            rows.setdefault(int(row["step"]), row)
    found = [(row, _file(seen.paths, int(row["epoch"]))) for row in rows.values()]
    return [(row, file) for row, file in found if file.exists()]


def _file(paths: RunPaths, epoch: int) -> Path:
    return paths.checkpoints / f"epoch_{epoch}.pth"


def _create(client: Any, experiment_id: str, run_id: str, seen: Snapshot, row: dict[str, Any], file: Path) -> Any:
    spec = seen.spec
    return client.create_logged_model(
        experiment_id,
        name=re.sub(r"[/:.%\"']", "_", f"{spec.name} seed {spec.seed} epoch {row['epoch']}"),
        source_run_id=run_id,
        tags=EXTERNAL,
        params={
            "path": str(file.resolve()),
            "sha256": row["checkpoint_sha256"],
            "epoch": str(row["epoch"]),
            "step": str(row["step"]),
            "cell": spec.cell,
            "seed": str(spec.seed),
        },
        model_type="Mask R-CNN",
    )


def _score(client: Any, run_id: str, model_id: str, seen: Snapshot, row: dict[str, Any]) -> None:
    """Link the run, the validation's metrics (the run's own points) and the data set; READY says that all is there."""
    from mlflow.entities import LoggedModelOutput, Metric

    data = fields.dataset(seen.spec.recipe.dataset, "val", seen.spec.val)
    linked = {"model_id": model_id, "dataset_name": data["name"], "dataset_digest": data["digest"]}
    scores = [Metric(*point, **linked) for point in points(row) if point.key.startswith("val/")]
    client.log_batch(run_id, metrics=scores)
    if model_id not in {output.model_id for output in client.get_run(run_id).outputs.model_outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, int(row["step"]))])
    client.finalize_logged_model(model_id, "READY")
