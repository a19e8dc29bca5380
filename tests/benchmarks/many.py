"""A place with a matrix of many cells and seeds, for benchmarks of what looks at all runs of an experiment."""

from pathlib import Path

from harness.data.shapes import generate_shapes

CELLS = 120
MATRIX = """\
name: many
seeds: {seeds}
axes:
  backbone: [R-50, R-101, X-101-32x4d, X-101-64x4d, X-101-32x8d]
  style: [pytorch, caffe]
  schedule: [1x, 2x, 3x]
  fp16: [false, true]
  multiscale: [false, true]
recipe: {{dataset: shapes, num_classes: 3, pretrained: none}}
"""


def write_place(folder: Path, wanted: int) -> Path:
    """Write data set, settings and a matrix of as many runs, up to a multiple of CELLS; the matrix file."""
    generate_shapes(folder / "shapes", train=2, val=2, size=64)
    (folder / "harness.toml").write_text(f'cache_root = "cache"\n[datasets.shapes]\nroot = "{folder}/shapes"\n')
    (folder / "many.yaml").write_text(MATRIX.format(seeds=list(range(-(-wanted // CELLS)))))
    return folder / "many.yaml"
