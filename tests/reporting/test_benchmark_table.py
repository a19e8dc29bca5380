"""The table of `harness benchmark`: what is said of a GPU, of a CPU, and of what could not be measured."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.files import read_json
from harness.reporting.benchmark_table import entry, page, write_table
from harness.shortening import Shortening

R50, R101 = "mask_rcnn_r50_fpn_1x_coco", "mask_rcnn_r101_fpn_1x_coco"


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What the table asks of a RunSpec."""

    name: str
    published: bool = True
    suffix: str = ""
    shortening: Shortening = Shortening()


def found(**changes: Any) -> dict[str, Any]:
    gpu = {"driver": "550.54", "sm_mhz": "1755", "max_sm_mhz": "1980", "memory_mhz": "2619", "power_w": "500"}
    return {
        "precision": "fp32",
        "memory_mb": 4608.0,
        "fps": 41.26,
        "median_s": 0.024,
        "p90_s": 0.031,
        "fps_images": 1995,
        "detections": 33.3,
        "weights": "0123456789abcdef",
        "hardware": {"kind": "cuda", "device": "NVIDIA H100", "count": 1, "host": "secret"},
        "versions": {"torch": "2.15"},
        "code": {"digest": "a", "commit": "c" * 40, "dirty": False},
        "tf32": {"matmul": False, "cudnn": True},
        "cudnn_benchmark": False,
        "cudnn": 91000,
        "gpu": gpu | {"power_limit_w": "700"},
        **changes,
    }


Page = Callable[[list[dict[str, Any]]], str]


@pytest.fixture
def written(tmp_path: Path) -> Page:
    def write(entries: list[dict[str, Any]]) -> str:
        path = write_table(tmp_path, "gpu", "zoo", entries)
        assert path.read_text() == page(read_json(tmp_path / "gpu.json"))  # anybody can make it anew
        assert "secret" not in path.read_text() + (tmp_path / "gpu.json").read_text()
        return path.read_text()

    return write


def row(text: str, cell: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {cell} "))
    return [part.strip() for part in line.strip("|").split("|")]


def test_measured_stands_beside_published(written: Page) -> None:
    """4608 MB are 4.5 GB. Published are 4.4 GB and 16.1 fps for R-50, 6.4 and 13.5 for R-101 (recipes, section 3)."""
    text = written(
        [entry(Spec(name=R50), found(), ""), entry(Spec(name=R101), None, "out of memory: CUDA")]  # type: ignore[arg-type]
    )
    measured = ["4.5", "4.4", "41.3", "16.1", "24 / 31", "1995", "33.3", "01234567", "1755"]
    assert row(text, R50) == [R50, "fp32", *measured]
    assert row(text, R101) == [R101, "not measured", "-", "6.4", "-", "13.5", "-", "-", "-", "-", "-"]
    assert f"- {R101}: out of memory: CUDA" in text
    assert "# Training memory and speed of zoo on NVIDIA H100" in text and "CPU" not in text
    assert "TF32 in matrix products off, in cuDNN on; cudnn.benchmark off; cuDNN 91000." in text
    assert "driver 550.54, power limit 700 W, SM clock at most 1980 MHz" in text
    assert "torch.cuda.max_memory_allocated" in text


def test_what_was_measured_beside_others_is_named(written: Page) -> None:
    busy = {name: found(name=name, others=others) for name, others in ((R50, 0.04), (R101, 0.873))}
    text = written([entry(Spec(name=name), one, "") for name, one in busy.items()])  # type: ignore[arg-type]
    assert f"so these are too slow: {R101} (87%).\n" in text


def test_a_cpu_and_a_shortened_recipe_are_told_apart_from_results(written: Page) -> None:
    cpu = {"kind": "cpu", "device": "Xeon", "count": 1, "threads": 2}
    spec = Spec(name=R50, shortening=Shortening(image_scale=0.1))
    text = written([entry(spec, found(hardware=cpu, gpu=None, cudnn=None, weights=None), "")])  # type: ignore[arg-type]
    assert "**Measured on a CPU: not comparable" in text and "**Shortened (image_scale=0.1)" in text
    assert "torch.cuda" not in text and "TF32" not in text and "Clocks" not in text  # a GPU's
    assert "Others were at work" not in text
    assert row(text, R50)[2:6] == ["4.5", "-", "41.3", "-"]  # no published number beside it
    assert row(text, R50)[-2:] == ["untrained", "-"]
