"""What is asked of nvidia-smi, and that a machine without it is not held up."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from harness.training.device_state import QUERIES, ask_gpu, device_state, others_share

UUID = "8a1e1a5c-0000-1111-2222-333344445555"
SMI = """\
#!/bin/sh
echo "$@" > {seen}
echo "550.54.15, 1980, 1980, 2619, 512.30, 700.00"
"""


def test_nvidia_smi_is_asked_for_this_gpu_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI.format(seen=tmp_path / "seen"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert ask_gpu(UUID) == {
        "driver": "550.54.15",
        "sm_mhz": "1980",
        "max_sm_mhz": "1980",
        "memory_mhz": "2619",
        "power_w": "512.30",
        "power_limit_w": "700.00",
    }
    asked = (tmp_path / "seen").read_text()
    assert f"--id=GPU-{UUID} " in asked and f"--query-gpu={','.join(QUERIES.values())} " in asked


@pytest.mark.parametrize("script", [None, "#!/bin/sh\necho 'No devices were found'\nexit 6\n"])
def test_clocks_that_cannot_be_read_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    if script is not None:
        (tmp_path / "nvidia-smi").write_text(script)
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_gpu(UUID) is None


@pytest.mark.parametrize(("said", "share"), [("37", 0.37), ("[N/A]", None)])  # N/A: a part of a GPU (MIG)
def test_others_at_work_on_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, share: float | None
) -> None:
    (tmp_path / "nvidia-smi").write_text(f'#!/bin/sh\ncase "$2" in --query-gpu=utilization.gpu) echo "{said}";; esac\n')
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=UUID))
    assert others_share(torch.device("cuda", 0)) == share


def test_others_at_work_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: 87.5)
    assert others_share(torch.device("cpu")) == 0.875


def test_a_cpu_has_no_clocks_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    state = device_state(torch.device("cpu"))
    assert state["gpu"] is None and state["cudnn"] is None
    assert state["cudnn_benchmark"] is True and set(state["tf32"]) == {"matmul", "cudnn"}
