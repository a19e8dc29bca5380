"""The code that jobs run is the one that was submitted: edits change no run at work, on a real SLURM."""

import json
import shutil
from typing import Any

import pytest
import torch
from conftest import ROOT

from harness.launching.frozen_code import Submission, read_submission
from harness.provenance import trained_by
from harness.run_log import segments
from harness.run_paths import RunPaths
from harness.run_state import State, read_state
from slurm.conftest import call, eventually, start_now
from slurm.place import Place, run, steps

pytestmark = pytest.mark.slurm

LOSS = '"loss_rpn_bbox": ((delta'


class Checkout:
    """A copy of this package from which runs are submitted, and in which a loss can be edited."""

    def __init__(self, place: Place) -> None:
        self.place, self.folder = place, place.folder / "checkout"
        for part in ("harness", "experiments"):
            shutil.copytree(ROOT / part, self.folder / part, ignore=shutil.ignore_patterns("__pycache__"))

    def edit(self) -> None:
        """Weigh a loss twice."""
        file = self.folder / "harness" / "detection" / "rpn.py"
        text = file.read_text()
        assert text.count(LOSS) == 1
        file.write_text(text.replace(LOSS, LOSS.replace("((", "2 * ((")))

    def submit(self, *words: str, **environ: str) -> list[dict[str, Any]]:
        environ |= {"PYTHONPATH": str(self.folder), "PYTHONSAFEPATH": "1"}
        found = self.place.harness("submit", "tiny.yaml", "--json", *words, **environ).stdout
        return json.loads(found)  # type: ignore[no-any-return]


@pytest.fixture
def checkout(place: Place) -> Checkout:
    return Checkout(place)


def weights(paths: RunPaths) -> dict[str, torch.Tensor]:
    file = paths.checkpoints / json.loads((paths.checkpoints / "latest.json").read_text())[-1]["file"]
    return torch.load(file, weights_only=True)["state_dict"]  # type: ignore[no-any-return]


def same(one: RunPaths, other: RunPaths) -> bool:
    """Whether two runs have come to the same weights, bit for bit."""
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def attempts(paths: RunPaths) -> list[dict[str, Any]]:
    return [rows[0] for rows in segments(paths).values() if rows]


def finish(paths: RunPaths) -> None:
    eventually(lambda: read_state(paths).state == State.FINISHED, 240)


@pytest.mark.slow
def test_a_loss_is_edited_between_requeue_and_second_start(place: Place, checkout: Checkout) -> None:
    """The weights are those of a run that nothing happened to."""
    place.write(epochs=4)
    (row,) = checkout.submit()
    (undisturbed,) = checkout.submit(HARNESS_RUN_ROOT=str(place.folder / "undisturbed"))
    paths = run(row)
    eventually(lambda: steps(paths, "train"), 240)
    call(f"scancel --signal=USR2 {row['job']}")
    eventually(lambda: read_state(paths).state == State.QUEUED, 120)
    assert steps(paths, "train") != list(range(1, 13))
    checkout.edit()
    start_now(row["job"])
    for one in (paths, run(undisturbed)):
        finish(one)
    assert steps(paths, "train") == list(range(1, 13))
    assert same(paths, run(undisturbed))
    codes = [entry["code"] for entry in attempts(paths)]
    assert [code["digest"] for code in codes] == [row["code"]] * 2
    assert all(code["frozen"] for code in codes)
    kept = place.folder / "runs" / ".code" / row["code"]
    assert LOSS in (kept / "harness" / "detection" / "rpn.py").read_text()
    matrix = attempts(paths)[0]["matrix"]
    assert (place.folder / "runs" / ".matrix" / matrix).read_text() == (place.folder / "tiny.yaml").read_text()


@pytest.mark.slow
def test_what_recode_moves_and_what_it_leaves(place: Place, checkout: Checkout) -> None:
    """One run works and one waits; then the first is cancelled, and goes on with either code."""
    place.write("array_parallelism: 1", multiscale="[false, true]", epochs=200)
    before = checkout.submit()
    first, second = map(run, before)
    old = before[0]["code"]
    eventually(lambda: steps(first, "train"), 240)
    checkout.edit()
    moved = checkout.submit("--recode")
    new = moved[1]["code"]
    assert [(row["action"], row["code"]) for row in moved] == [("leave alone", old), ("move to the present code", new)]
    assert (moved[0]["job"], moved[1]["job"] == before[1]["job"]) == (before[0]["job"], False)
    assert read_submission(second) == Submission(code=new, matrix=attempts(first)[0]["matrix"])
    eventually(lambda: steps(second, "train"), 240)
    assert [code for paths in (first, second) for code in trained_by(segments(paths))] == [old, new]
    assert read_state(first).state == State.RUNNING
    for number, words in enumerate(([], ["--recode"]), 2):
        call(f"scancel {json.loads(first.job.read_text())['id']}")
        eventually(lambda: place.states()[0] == "KILLED", 240)  # by its own word, or by the accounting
        again = checkout.submit(*words)
        assert (again[0]["action"], again[1]["action"]) == ("resume", "leave alone")
        eventually(lambda: len(attempts(first)) == number and len(segments(first)[f"{number:04d}"]) > 1, 240)  # noqa: B023
    assert [entry["code"]["digest"] for entry in attempts(first)] == [old, old, new]
    assert trained_by(segments(first)) == [old, new]
