"""What `harness benchmark` measures anew, what it takes from before, and where it keeps it; nothing is timed here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from training.tiny import write_place

from harness.errors import UserError
from harness.files import read_json
from harness.launching import benchmark
from harness.launching.benchmark import Target, find_cells, find_target, measure
from harness.launching.prepare import PreparedRun, prepare
from harness.matrix import load_experiment
from harness.run_paths import RunPaths
from harness.run_spec import Origin, RunSpec, read_spec, write_spec
from harness.run_state import State, read_state, write_state
from harness.settings import Settings, load_settings

DEVICE = {"kind": "cuda", "device": "NVIDIA H100 80GB HBM3", "count": 1, "host": "one"}
HERE = {"hardware": DEVICE, "versions": {"torch": "2"}, "code": {"digest": "a"}}


class Machine:
    """A device that measures at once: `results` follow each other; a text is a mistake."""

    def __init__(self) -> None:
        self.here: dict[str, Any] = HERE
        self.asked: list[tuple[RunSpec, Path | None]] = []
        self.shipped: list[RunPaths] = []
        self.mistake = ""
        self.store_away = False

    def measure(self, function: Callable[..., Any], spec: RunSpec, checkpoint: Path | None) -> dict[str, Any]:
        assert function is benchmark.measure_here
        if self.mistake:
            raise UserError(self.mistake)
        self.asked.append((spec, checkpoint))
        return {"time": float(len(self.asked)), "fps": 10.0 * len(self.asked), **self.here}

    def ship(self, paths: RunPaths, uri: str) -> None:
        if self.store_away:
            raise UserError("tracking store http://here: does not answer")
        self.shipped.append(paths)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(benchmark, "in_own_process", made.measure)
    monkeypatch.setattr(benchmark, "this_device", lambda: made.here)
    monkeypatch.setattr(benchmark, "ship", made.ship)
    return made


@pytest.fixture
def settings(tmp_path: Path, shapes: Path) -> Settings:
    write_place(tmp_path, shapes, multiscale="[false, true]", seeds="[0, 1]")
    return load_settings(tmp_path, {})


@pytest.fixture
def targets(tmp_path: Path, settings: Settings) -> list[Target]:
    return find_cells(load_experiment(tmp_path / "tiny.yaml"), settings)


def taken(target: Target, settings: Settings, *, again: bool = False) -> benchmark.Measured:
    return measure(target, settings, again=again, note=lambda text: None)


def test_each_cell_is_a_run_of_its_own_in_an_experiment_of_the_device(
    targets: list[Target], settings: Settings, machine: Machine
) -> None:
    assert [target.spec.seed for target in targets] == [0, 0]  # the first seed stands for all
    for target in targets:
        taken(target, settings)
    folder = settings.run_root / "tiny-benchmark-nvidia-h100-80gb-hbm3"
    assert len(machine.shipped) == 2 and {paths.folder.parent for paths in machine.shipped} == {folder}
    spec = read_spec(machine.shipped[0])
    assert (spec.origin, spec.full, spec.name) == (Origin.BENCHMARK, False, targets[0].spec.name)
    assert read_state(machine.shipped[0]).state == State.FINISHED
    assert read_json(machine.shipped[0].benchmark)["fps"] == 10.0


def test_what_is_known_of_this_code_and_device_is_not_measured_again(
    targets: list[Target], settings: Settings, machine: Machine
) -> None:
    fps = []
    for here, again in (
        (HERE, False),
        (HERE | {"hardware": DEVICE | {"host": "another"}}, False),  # the same device in another node
        (HERE, True),
        (HERE | {"code": {"digest": "b"}}, False),
        (HERE | {"versions": {"torch": "3"}}, False),
        (HERE | {"hardware": DEVICE | {"device": "NVIDIA A100"}}, False),
        (HERE | {"versions": {"torch": "3"}, "code": {"digest": "a"}}, False),
    ):
        machine.here = here
        found = taken(targets[0], settings, again=again).found
        assert found is not None
        fps.append(found["fps"])
    # The sixth is in the experiment of its own device, the last finds what the fifth left: all but its digest "b".
    assert fps == [10.0, 10.0, 20.0, 30.0, 40.0, 50.0, 40.0]


def test_the_same_command_ships_what_the_store_missed(
    targets: list[Target], settings: Settings, machine: Machine
) -> None:
    """And says that it measures nothing. No `harness sync` knows the experiment of a device: it has no matrix file."""
    notes: list[str] = []
    machine.store_away = True
    measure(targets[0], settings, again=False, note=notes.append)
    assert len(notes) == 1 and "does not answer" in notes[0] and notes[0].endswith("; later: the same command ships it")
    machine.store_away = False
    measure(targets[0], settings, again=False, note=notes.append)
    assert notes[1:] == [f"{targets[0].spec.name}: measured already by this code on this device; --again measures anew"]
    assert len(machine.asked) == len(machine.shipped) == 1


def test_what_fails_leaves_nothing_and_is_told(targets: list[Target], settings: Settings, machine: Machine) -> None:
    machine.mistake = "out of memory: CUDA"
    measured = taken(targets[0], settings)
    assert (measured.found, measured.fault) == (None, "out of memory: CUDA")
    assert not settings.run_root.exists() and not machine.shipped
    machine.mistake = ""
    assert taken(targets[0], settings).found is not None


def test_the_weights_of_a_finished_run_are_measured(tmp_path: Path, settings: Settings, machine: Machine) -> None:
    """Without touching the run, whose own benchmark fills the tables of its experiment."""
    experiment = load_experiment(tmp_path / "tiny.yaml")
    run = prepare(experiment, settings)[0]
    finish(run, tmp_path / "trained.pth")
    first, other = find_cells(experiment, settings)
    taken(first, settings)
    taken(other, settings)
    assert [checkpoint for _, checkpoint in machine.asked] == [tmp_path / "trained.pth", None]
    assert not run.paths.benchmark.exists()


def test_a_run_is_measured_into_its_own_folder(tmp_path: Path, settings: Settings, machine: Machine) -> None:
    """One that was not trained here, too: the memory of a training is then its cell's."""
    run = prepare(load_experiment(tmp_path / "tiny.yaml"), settings)[0]
    finish(run, tmp_path / "published.pth", tested=True)
    (tmp_path / "experiments").mkdir()
    target = find_target(str(run.paths.folder), settings)
    assert target.paths == run.paths and target.spec.train is not None
    taken(target, settings)
    assert read_json(run.paths.benchmark)["fps"] == 10.0
    assert read_spec(run.paths).train is None and machine.shipped == [run.paths]


def finish(run: PreparedRun, weights: Path, *, tested: bool = False) -> None:
    """A finished run whose weights are this file."""
    weights.write_bytes(b"weights")
    source = benchmark.SourceSpec(path=str(weights), sha256="0")
    write_spec(run.paths, replace(run.spec, source=source, train=None if tested else run.spec.train))
    write_state(run.paths, State.FINISHED, attempt=1)


def test_a_file_that_is_not_there(settings: Settings) -> None:
    with pytest.raises(UserError, match=r"gone\.pth: no such file; name a matrix file, a run's folder"):
        find_target("gone.pth", settings)
    with pytest.raises(UserError, match=r"^runs/gone: no such run's folder; name a matrix file, a run's folder"):
        find_target("runs/gone", settings)


def test_a_folder_or_file_that_is_no_run(tmp_path: Path, settings: Settings) -> None:
    for path in (tmp_path, tmp_path / "harness.toml"):
        with pytest.raises(UserError, match=r"^/.*: is no run's folder; name a matrix file, a run's folder"):
            find_target(str(path), settings)
