import json
import sys
import time
from types import SimpleNamespace

import pytest

from harness.run_log import read_log
from harness.tracking import system
from harness.tracking.system import find_node, gpu_probes, host_probe, sampling

HOST = {
    "cpu_utilization_percentage",
    "system_memory_usage_megabytes",
    "system_memory_usage_percentage",
    "disk_usage_percentage",
    "network_receive_megabytes",
    "network_transmit_megabytes",
}
"""MLflow's own names, as its pages of a run group them."""


def test_a_probe_of_this_machine(tmp_path):
    found = host_probe(tmp_path)()
    assert set(found) == HOST
    assert 0 < found["system_memory_usage_percentage"] < 100
    assert found["system_memory_usage_megabytes"] > 50


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, (0, 1)),
        ({"GROUP_RANK": "1", "GROUP_WORLD_SIZE": "2", "SLURM_NODEID": "0", "SLURM_NNODES": "2"}, (1, 2)),
        ({"SLURM_NODEID": "3", "SLURM_NNODES": "4"}, (3, 4)),
    ],
)
def test_the_node_by_the_launchers_environment(environ, expected):
    assert find_node(environ) == expected


def attempt(tmp_path, number):
    folder = tmp_path / "attempts" / f"{number:04d}"
    folder.mkdir(parents=True)
    return folder


def test_even_a_short_attempt_leaves_a_row(tmp_path):
    first = attempt(tmp_path, 1)
    with sampling(first, gpus=False):
        pass
    (row,) = read_log(first / "system-0.json")
    assert set(row["values"]) == HOST
    assert (row["mode"], row["node"], row["nodes"]) == ("system", 0, 1)
    assert abs(row["stamp"] - time.time()) < 60


def test_seconds_go_on_over_attempts(tmp_path):
    old = {"mode": "system", "node": 0, "nodes": 1, "host": "a", "seconds": 5, "values": {}, "stamp": time.time() - 95}
    (attempt(tmp_path, 1) / "system-0.json").write_text(json.dumps(old) + "\n" + '{"cut')
    second = attempt(tmp_path, 2)
    with sampling(second, gpus=False):
        pass
    assert 100 <= read_log(second / "system-0.json")[-1]["seconds"] < 160


def test_rows_are_the_means_of_their_windows(tmp_path, monkeypatch):
    """A sample a second for 40 s of a clock made by hand, and windows of 1, 2, 4 ... s from 10 s on."""
    clock = iter(range(1000, 1041))
    monkeypatch.setattr(system.time, "time", lambda: float(next(clock)))
    monkeypatch.setattr(system, "WINDOWS", 10)
    values = iter(range(100))
    over = SimpleNamespace(count=0)

    def wait(seconds):
        over.count += 1
        return over.count == 40

    over.wait = wait
    with (tmp_path / "rows").open("w") as file:
        system._record(over, file, [lambda: {"x": float(next(values))}], 1.0, node=0, nodes=1, first=1000.0)
    found = [(row["seconds"], row["values"]["x"]) for row in read_log(tmp_path / "rows")]
    # Seconds 0 to 19 are windows of their own (width 1 below 20); then a row at 20, 22 ... 38 (the first of a window
    # of 2) holds the mean of the samples since the last row; 39 is the end.
    assert found[:20] == [(second, float(second)) for second in range(20)]
    assert found[20:23] == [(20, 20.0), (22, 21.5), (24, 23.5)]
    assert found[-2:] == [(38, 37.5), (39, 39.0)]


def test_a_failing_probe_ends_the_sampling_alone(tmp_path, monkeypatch, capsys):
    def broken(folder):
        raise OSError("no such device")

    monkeypatch.setattr(system, "host_probe", broken)
    with sampling(attempt(tmp_path, 1), gpus=False):
        time.sleep(0.1)
    assert capsys.readouterr().err == "system metrics end here: OSError: no such device\n"


class FakeNvml:
    """Two GPUs as NVML shows them: numbers by hand."""

    class NVMLError(Exception):
        pass

    nvmlInit = staticmethod(lambda: None)
    nvmlDeviceGetCount = staticmethod(lambda: 2)
    nvmlDeviceGetHandleByIndex = staticmethod(lambda index: index)
    nvmlDeviceGetHandleByUUID = staticmethod(lambda uuid: {"GPU-b": 1}[uuid])
    nvmlDeviceGetMemoryInfo = staticmethod(lambda handle: SimpleNamespace(used=20e9, total=80e9))
    nvmlDeviceGetUtilizationRates = staticmethod(lambda handle: SimpleNamespace(gpu=90 + handle))
    nvmlDeviceGetPowerUsage = staticmethod(lambda handle: 350_000)


@pytest.mark.parametrize(
    ("visible", "use"), [(None, [90, 91]), ("1", [91]), ("GPU-b", [91]), ("1,0", [91, 90]), ("", [])]
)
def test_only_the_gpus_of_the_job(monkeypatch, visible, use):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = [probe() for probe in gpu_probes()]
    assert [sample[f"gpu_{number}_utilization_percentage"] for number, sample in enumerate(found)] == use
    for number, sample in enumerate(found):
        assert sample[f"gpu_{number}_memory_usage_percentage"] == 25
        assert sample[f"gpu_{number}_power_usage_watts"] == 350


def test_no_gpu_metrics_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_probes() == []
