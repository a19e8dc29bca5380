"""A first working folder: a commented harness.toml and a small matrix that needs nothing but a generated data set."""

from pathlib import Path

from harness.errors import UserError
from harness.files import write_text
from harness.settings import FILE_NAME

FIRST_MATRIX = Path("experiments/first.yaml")

SETTINGS = """\
# Settings of the harness. Nothing here changes results; `harness doctor` shows each value and where it came from.
# A key left out takes its default, which is the value shown. Relative paths start from this file's folder.
# Environment variables go first: HARNESS_RUN_ROOT, HARNESS_CACHE_ROOT, HARNESS_TRACKING_URI (or MLFLOW_TRACKING_URI),
# HARNESS_CLUSTER, HARNESS_LOCAL_JOBS, HARNESS_THREADS, and HARNESS_DATASET_NAME for the root of data set "name".

# run_root = "runs"                         # one folder a run: log, checkpoints, detections
# cache_root = "~/.cache/maskrcnn-harness"  # pretrained weights, digests
# tracking_uri = "sqlite:///mlflow.db"      # or the http:// address of an MLflow server
# cluster = "local"                         # where jobs go
# local_jobs = 1                            # local runs at the same time
# threads = 4                               # torch threads of each; by default the cores divided by local_jobs

[datasets.shapes]                           # made by: harness data shapes data/shapes
root = "data/shapes"

# [datasets.coco2017]                       # annotations/instances_{train,val}2017.json, train2017/, val2017/
# root = "data/coco2017"
# train_images = "train2017"                # these four only where the layout differs; relative to root or absolute
# train_annotations = "annotations/instances_train2017.json"
# val_images = "val2017"
# val_annotations = "annotations/instances_val2017.json"
"""

MATRIX = """\
# Two cells, single- and multi-scale, small enough for a CPU.
#   harness plan experiments/first.yaml      what it would run
#   harness submit experiments/first.yaml    run it
name: first
description: A first experiment on generated shapes
axes:
  backbone: R-18
  multiscale: [false, true]
recipe:                      # what differs from the cells' own recipes: `harness show CELL` prints all fields
  label: demo                # the cells are shown as NAME+demo
  dataset: shapes
  num_classes: 3
  pretrained: none           # random weights: nothing is frozen, and batch norm is trained
  fpn_channels: 64
  rpn_pre_nms_train: 200
  rpn_proposals: 200
  roi_samples: 32
  box_fc_channels: 256
  mask_channels: 32
  optimizer: AdamW
  lr: 0.001
  batch: 4
  micro_batch: 4
  warmup_iters: 20
shorten: {epochs: 4, image_scale: 0.09}    # 4 epochs instead of 12; 800 pixels become 72
resources: {gpus_per_node: 0, workers: 0}
"""

NEXT_STEPS = f"""\
Next:
  harness doctor                          what is well here, and what is not
  harness data shapes data/shapes         make the data set
  harness plan {FIRST_MATRIX}     what the matrix means
  harness submit {FIRST_MATRIX}   run it
  harness report {FIRST_MATRIX}   the tables
"""


def init(folder: Path) -> list[Path]:
    """Write harness.toml and experiments/first.yaml into `folder`; the written paths.

    Raises UserError, before anything is written, where one of them is there already.
    """
    files = {folder / FILE_NAME: SETTINGS, folder / FIRST_MATRIX: MATRIX}
    there = [str(path) for path in files if path.exists()]
    if there:
        raise UserError(f"{' and '.join(there)} already there; nothing is written: choose an empty folder")
    for path, text in files.items():
        write_text(path, text)
    return list(files)
