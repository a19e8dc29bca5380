"""A study, and run folders as its trials and reruns would have left them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.tiny import write_place

from harness.files import write_json
from harness.launching.prepare import PreparedRun, prepare, write
from harness.matrix import Experiment
from harness.run_paths import RunPaths
from harness.run_state import State, write_state
from harness.settings import Settings, load_settings
from harness.trial_file import TrialFile, write_trial
from harness.tuning.study_file import Study, load_study

STUDY = """
name: small
description: Learning rate of a tiny cell.
cell: {{backbone: R-18}}
recipe:
  {{label: tiny, dataset: shapes, num_classes: 3, pretrained: none, fpn_channels: 32, optimizer: AdamW, lr: 0.001}}
shorten: {{epochs: 2, image_scale: 0.1}}
resources: {{gpus_per_node: 0, minutes: 5}}
search:
  lr: {{low: 0.0001, high: 0.01, log: true}}
  warmup_iters: {{low: 0, high: 1000}}
  multiscale_mode: [fixed, range]
objective: {objective}
budget: {{trials: 8}}
"""


def place(folder: Path, shapes: Path, objective: str = "segm AP") -> tuple[Study, Settings]:
    """A study of the generated images in a folder."""
    write_place(folder, shapes)
    path = folder / "small.yaml"
    path.write_text(STUDY.format(objective=objective))
    return load_study(path), load_settings(folder, {})


def leave(
    run: PreparedRun, state: State, epochs: Sequence[float] = (), result: dict[str, Any] | None = None
) -> RunPaths:
    """A run that stands so, validated after each epoch with this mask AP (0..1)."""
    write(run)
    rows = [
        {"mode": "val", "epoch": number, "step": 3 * number, "bbox_mAP": 0.2, "segm_mAP": value}
        for number, value in enumerate(epochs, 1)
    ]
    run.paths.attempt(1).mkdir(parents=True)
    run.paths.segment(1).write_text("".join(json.dumps(row) + "\n" for row in rows))
    if state == State.FINISHED and result is not None:
        write_json(run.paths.result, {"metrics": {"bbox_mAP": 0.2, "segm_mAP": epochs[-1]}} | result)
    write_state(run.paths, state, attempt=1, reason="no room" if state == State.FAILED else "")
    return run.paths


def trial(
    study: Study,
    settings: Settings,
    number: int,
    epochs: Sequence[float],
    state: State = State.FINISHED,
    result: dict[str, Any] | None = None,
    *,
    pruned: str = "",
    failed: str = "",
    **params: Any,
) -> RunPaths:
    """The run of a trial; params: what is not the base's."""
    own = {dimension.field: getattr(study.base.recipe, dimension.field) for dimension in study.space} | params
    (run,) = prepare(study.experiment((study.cell(number, own),)), settings)
    paths = leave(run, state, epochs, None if pruned else result or {})
    write_trial(paths, TrialFile(study=study.name, number=number, params=own, pruned=pruned, failed=failed))
    return paths


def rerun(experiment: Experiment, settings: Settings, values: Sequence[Sequence[float]]) -> None:
    """The runs of an experiment, its cells' last mask AP by seed; None of those that values lack."""
    runs = prepare(experiment, settings)
    seeds = len(experiment.seeds)
    for cell, reached in enumerate(values):
        for seed, value in enumerate(reached):
            leave(runs[seeds * cell + seed], State.FINISHED, (value,), {})
