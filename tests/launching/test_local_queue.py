"""What a run that is queued on this machine gets."""

import pytest

from harness.launching.local_queue import local_gpus


def test_gpus_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert [local_gpus(wanted, jobs) for wanted, jobs in ((0, 1), (8, 1), (8, 2), (2, 2), (8, 16))] == [
        0, 8, 4, 2, 0,
    ]  # fmt: skip
