"""The benchmark by part: what its clock counts, that its parts are all of a step, and what its page says."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import ROOT

from harness.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder of the benchmarks can be imported from."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
    yield
    for name in ("bench_parts", "parts_clock", "parts_table", "bench_vs_torchvision"):
        sys.modules.pop(name, None)


def test_the_clock_sums_calls_and_leaves_no_trace(benchmarks: None) -> None:
    from parts_clock import Clock

    class Work:
        def short(self) -> int:
            time.sleep(0.01)
            return 1

    work, clock = Work(), Clock(CPU)
    helper = SimpleNamespace(long=lambda: time.sleep(0.05))
    own = helper.long
    with clock.timing([(work, "short", "short"), (helper, "long", "long")]):
        assert work.short() + work.short() == 2
        helper.long()
    found = clock.read()
    assert found["short"] >= 20 and found["long"] >= 50
    assert vars(work) == {} and helper.long is own
    work.short()
    assert clock.read() == {}


@pytest.fixture
def bench(benchmarks: None, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """With one round of everything."""
    import bench_parts

    monkeypatch.setattr(bench_parts, "ROUNDS", {"cpu": 1})
    monkeypatch.setattr(bench_parts, "WARMUP", {"cpu": 0})
    monkeypatch.setattr(bench_parts, "SHRINK", {"cpu": 12})
    return bench_parts


@pytest.mark.slow
def test_parts_are_called_once_and_make_up_the_whole(bench: ModuleType) -> None:
    """So that a part which the model no longer calls by its name is noticed."""
    kind = bench.Kind(cell="mask_rcnn_r18_fpn_1x_coco", precision="bf16", kernels="fast", mode="eager")
    for found, images in ((bench.training(kind, 2, CPU), 2), (bench.inference(kind, CPU), 1)):
        parts = dict(found["parts"])
        whole = parts.pop("whole")
        assert sum(parts.values()) == pytest.approx(whole)
        assert min(parts.values()) >= 0 and parts["rest"] < whole / 2
        assert {"backbone", "proposals", "mask head"} < {part for part, spent in parts.items() if spent > 0}
        assert len(found["ms"]) == 1 and found["memory_mb"] > 50 and images
    assert found["detections"] == 10


@pytest.fixture
def content() -> dict[str, Any]:
    def row(precision: str, kernels: str, mode: str, batch: int, ms: float) -> dict[str, Any]:
        kind = {"cell": "mask_rcnn_r50_fpn_1x_coco", "precision": precision, "kernels": kernels, "mode": mode}
        return {"kind": kind, "batch": batch, "ms": [ms], "memory_mb": 1.0, "waits": 1, "parts": {"whole": ms}}

    fault = {**row("fp16", "fast", "compiled", 16, 0.0), "fault": "out of memory"}
    return {
        "protocol": {
            "hardware": {"kind": "cuda", "device": "NVIDIA H100"},
            "versions": {"torch": "2.15"},
            "code": {"digest": "a", "commit": None, "dirty": False},
            "size": [800, 1333],
            "shrink": 1,
            "boxes": {"objects": 8, "positives": 32, "regions": 512, "candidates": 1000, "detections": 100},
            "rounds": 7,
            "steps": 10,
            "warmup": 5,
        },
        "rows": [
            row("fp32", "reference", "eager", 2, 100.0),
            row("fp16", "reference", "eager", 2, 50.0),
            row("bf16", "reference", "eager", 2, 10.0),
            row("fp16", "fast", "eager", 2, 40.0),
            row("fp16", "fast", "compiled", 2, 32.0),
            row("fp16", "fast", "compiled", 8, 100.0),
            {name: value for name, value in fault.items() if name in ("kind", "batch", "fault")},
        ],
    }


def test_a_fault_is_a_row_and_rows_are_kept(
    bench: ModuleType, content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"tf32": {"matmul": False, "cudnn": True}, "cudnn_benchmark": False, "cudnn": 91000, "gpu": None}
    measured: list[tuple[str, int]] = []
    key = "one code"

    def called(function: Any, *given: Any) -> dict[str, Any]:
        if function is bench.protocol:
            return content["protocol"] | {"key": key}
        kind, batch = given
        measured.append((kind.precision, batch))
        if kind.precision == "bf16":
            raise UserError("out of memory")
        return {"ms": [10.0], "memory_mb": 1.0, "parts": {"whole": 10.0}, "state": state}

    def run(*batches: str) -> list[tuple[str, int]]:
        measured.clear()
        fixed = ["--kernels", "fast", "--modes", "eager", "--output", str(tmp_path / "table.md")]
        monkeypatch.setattr("sys.argv", ["bench_parts.py", *fixed, "--batches", *batches])
        bench.main()
        return list(measured)

    monkeypatch.setattr(bench, "in_own_process", called)
    assert run("2") == [("fp32", 2), ("fp32", 0), ("bf16", 2), ("bf16", 0)]
    text = (tmp_path / "table.md").read_text()
    assert "| r18 | fp32 | fast | eager | 2 | 200.00 | 10.0 [10.0 .. 10.0] | 1 | - |" in text
    assert text.count("| out of memory |") == 2
    assert run("2", "4") == [("fp32", 4), ("bf16", 4)]
    key = "another code"
    assert len(run("2")) == 4


def test_the_page_records_what_each_step_gained(benchmarks: None, content: dict[str, Any]) -> None:
    """2 images in 100, 50, 40, 32 ms and 8 in 100: 20, 40, 50, 62.5, 80 images a second."""
    from parts_table import ON_A_CPU, page

    text = page(content)
    gains = [line.split(" | ")[-3:] for line in text.partition("## What each step gains")[2].splitlines()[4:] if line]
    assert [[float(cell.strip(" |")) for cell in gain if "-" not in cell] for gain in gains] == [
        [20.0, 1.0],
        [40.0, 2.0, 2.0],
        [50.0, 1.25, 2.5],
        [62.5, 1.25, 3.12],
        [80.0, 1.28, 4.0],
    ]
    assert "| r50 | fp16 | fast | compiled | 16 | out of memory | - | - | - |" in text
    assert ON_A_CPU not in text and "on NVIDIA H100" in text


def test_a_cpu_is_called_one(benchmarks: None, content: dict[str, Any], tmp_path: Path) -> None:
    from parts_table import ON_A_CPU, page

    content["protocol"]["hardware"] = {"kind": "cpu", "device": "Xeon", "threads": 2}
    assert ON_A_CPU in page(content)
