"""A study on a real SLURM: its controller is a job, and so are its trials, of which one is requeued."""

import sys

import optuna
import pytest
from conftest import ROOT
from tuning.launched import CONTROL, write_study

from harness.launching.job_file import read_job
from harness.run_paths import RunPaths
from harness.run_state import State, read_state
from harness.tuning.study_file import storage_url
from harness.tuning.trials import trials
from slurm.conftest import call, eventually, output, start_now
from slurm.place import Place, first_steps, steps

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def job_of(paths: RunPaths) -> str:
    """The job that has a run."""
    job = read_job(paths)
    assert job and job.id
    return job.id


def test_a_study_whose_controller_is_a_job(place: Place) -> None:
    """A trial that is warned goes back to the queue, and goes on there under its number."""
    place.write()
    study, settings = write_study(
        place.folder, place.folder / "shapes", budget="{trials: 2, parallel: 2}", settings='cluster = "here.yaml"'
    )
    path = place.folder / "tuned.yaml"
    path.write_text(path.read_text().replace("iterations_per_epoch: 2", "iterations_per_epoch: 8"))
    (place.folder / "control.py").write_text(CONTROL)
    command = f"cd {place.folder} && PYTHONPATH={ROOT} {sys.executable} -u control.py"
    script = place.folder / "control.sh"
    script.write_text(f"#!/bin/sh\n{command}\n")
    said = place.folder / "control.out"
    job = output(f"sbatch --parsable --job-name=control --output={said} {script}")
    eventually(lambda: len(trials(study, settings)) == 2, 240)
    warned = trials(study, settings)[1].paths
    eventually(lambda: warned.segment(1).exists() and steps(warned, "train"), 240)
    trial_job = job_of(warned)
    call(f"scancel --signal=USR2 {trial_job}")
    eventually(lambda: read_state(warned).state == State.QUEUED, 120)
    start_now(trial_job)
    eventually(lambda: not output(f"squeue --noheader --jobs={job}"), 300)
    told = optuna.load_study(study_name="tuned", storage=storage_url(study, settings)).trials
    assert [trial.state.name for trial in told] == ["COMPLETE"] * 2, said.read_text()
    assert [trial.value for trial in told] == [trial.params["lr"] for trial in told]
    assert read_state(warned).attempt == 2 and job_of(warned) == trial_job
    assert len(first_steps(warned)) < 8 and steps(warned, "train") == list(range(1, 9))
