"""The fps protocol on a model of known slowness."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from harness.errors import UserError
from harness.evaluation.speed import measure_fps, peak_memory_mb

from .fakes import Sample, WholeImage


class Slow(WholeImage):
    """Takes 200 ms for each of the first two images, then 10, 10, 10 and 30 ms."""

    def detect(self, *arguments):  # type: ignore[no-untyped-def]
        time.sleep((0.2, 0.2, 0.01, 0.01, 0.01, 0.03)[len(self.calls)])
        return super().detect(*arguments)


def images(count: int) -> list[Sample]:
    return [Sample(image_id=number, image=torch.zeros(1, 3, 32, 64)) for number in range(count)]


def test_warm_up_is_left_out_and_the_mean_decides() -> None:
    model = Slow()
    speed = measure_fps(model, images(10), device="cpu", warmup=2, images=6)
    assert speed.images == 4
    assert len(model.calls) == 6
    assert speed.fps == pytest.approx(1 / speed.mean_s)
    assert 0.015 <= speed.mean_s < 0.1  # (10 + 10 + 10 + 30) / 4 ms, and what the machine adds
    assert 0.010 <= speed.median_s < speed.mean_s
    assert speed.p90_s > speed.mean_s  # between 10 and 30 ms, 0.7 of the way
    assert speed.detections == 1  # WholeImage finds one object in each
    assert speed.device == "CPU"


def test_too_few_images_are_refused() -> None:
    with pytest.raises(UserError, match="5 images, of which the first 5"):
        measure_fps(WholeImage(), images(5), device="cpu")


@pytest.mark.slow
def test_peak_memory_on_a_cpu_is_the_process_and_grows_with_it() -> None:
    before = peak_memory_mb("cpu")
    assert 50 < before < 100_000
    held = torch.ones(int(before) + 100, 2**18)  # MB of float32: more than the whole process held at its peak
    assert peak_memory_mb("cpu") - before > 90
    del held


@pytest.mark.slow
def test_peak_memory_is_not_that_of_the_process_which_started_it() -> None:
    code = "from harness.evaluation.speed import peak_memory_mb; print(peak_memory_mb('cpu'))"
    held = np.ones(int(peak_memory_mb("cpu") + 400) * 2**17)  # MB
    told = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert float(told) < held.nbytes / 2**20


@pytest.mark.gpu
def test_peak_memory_on_cuda_is_what_torch_allocated() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() / 2**20
    torch.empty(64, 2**20, dtype=torch.uint8, device="cuda")
    assert peak_memory_mb("cuda") == pytest.approx(before + 64, abs=1)
