"""A working folder whose cluster is the testbed, and what tests ask of the runs in it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import ROOT
from training.tiny import make_shapes, write_place

from harness.run_log import merged_rows, read_log
from harness.run_paths import RunPaths
from harness.run_state import State, read_state
from slurm.waiting import eventually


class Place:
    """A working folder whose cluster is the testbed, with changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_shapes(folder / "shapes", train=32)

    def write(self, changes: str = "", **matrix: Any) -> None:
        """The cluster file, harness.toml and tiny.yaml."""
        lines = (ROOT / "slurm" / "clusters" / "testbed.yaml").read_text().splitlines()
        keys = [line.partition(":")[0] for line in changes.splitlines()]
        kept = [line for line in lines if line.partition(":")[0] not in keys]
        (self.folder / "here.yaml").write_text("\n".join([*kept, changes]))
        write_place(self.folder, self.folder / "shapes", settings='cluster = "here.yaml"', **matrix)

    def harness(self, *words: str, check: bool = True, **environ: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "harness", *words]
        env = {name: value for name, value in os.environ.items() if not name.startswith("HARNESS_")} | environ
        done = subprocess.run(command, cwd=self.folder, env=env, check=False, capture_output=True, text=True)
        assert done.returncode == 0 or not check, done.stderr
        return done

    def submit(self, *words: str, **environ: str) -> list[dict[str, Any]]:
        found = self.harness("submit", "tiny.yaml", "--json", *words, **environ).stdout
        return json.loads(found)  # type: ignore[no-any-return]

    def status(self, **environ: str) -> list[dict[str, Any]]:
        found = self.harness("status", "tiny.yaml", "--json", **environ).stdout
        return json.loads(found)  # type: ignore[no-any-return]

    def states(self, **environ: str) -> list[str]:
        return [row["state"] for row in self.status(**environ)]


def run(row: dict[str, Any]) -> RunPaths:
    """The run of a row that submit or status answers."""
    return RunPaths(Path(row["folder"]))


def steps(paths: RunPaths, mode: str) -> list[int]:
    """Those of the merged journal's rows of a mode, in order."""
    return [row["step"] for row in merged_rows(paths) if row["mode"] == mode]


def first_steps(paths: RunPaths) -> list[int]:
    """Those that the first attempt trained."""
    return [row["step"] for row in read_log(paths.segment(1)) if row["mode"] == "train"]


def begun(place: Place, changes: str = "", **matrix: Any) -> tuple[str, RunPaths]:
    """A run of four epochs that has trained its first steps: its job and its folder."""
    place.write(changes, **({"epochs": 4} | matrix))
    (row,) = place.submit()
    paths = run(row)
    eventually(lambda: steps(paths, "train"), 240)
    return row["job"], paths


def finished(paths: RunPaths, attempts: int) -> None:
    """Wait for it."""
    eventually(lambda: read_state(paths).state == State.FINISHED, 300)
    assert read_state(paths).attempt == attempts


def text(place: Place) -> str:
    """What status says of the one run."""
    return str(place.status()[0]["text"])
