"""Which code a run goes on with: the one that it began with, unless --recode says otherwise. No job is started here."""

import shutil
from pathlib import Path

import pytest
from training.tiny import write_place

from harness.errors import UserError
from harness.files import read_json, write_json
from harness.launching import decide as decide_module
from harness.launching import frozen_code, local_queue, slurm_submit, supervisor
from harness.launching import submit as submit_module
from harness.launching.decide import Action, Decision, decide
from harness.launching.frozen_code import code_folder, present_code, read_submission
from harness.launching.job_file import Job, read_job, write_job
from harness.launching.local_queue import Home, queued_folders
from harness.launching.prepare import prepare
from harness.launching.standings import Standing
from harness.launching.submit import submit
from harness.matrix import Experiment, load_experiment
from harness.run_paths import RunPaths
from harness.run_state import State, read_state, write_state
from harness.settings import Settings, load_settings


class Place:
    """Two cells, and a small package beside them as the present code, which can be edited."""

    def __init__(self, folder: Path, shapes: Path) -> None:
        self.experiment: Experiment = load_experiment(write_place(folder, shapes, multiscale="[false, true]"))
        self.settings: Settings = load_settings(folder, {})
        self.home = Home(self.settings.run_root)
        self.runs = [run.paths for run in prepare(self.experiment, self.settings)]
        self.file = folder / "checkout" / "harness" / "loss.py"
        self.file.parent.mkdir(parents=True)
        self.edit(1)

    def edit(self, number: int) -> None:
        self.file.write_text(f"WEIGHT = {number}\n")

    def submit(self, *, recode: bool = False) -> list[Decision]:
        return submit(self.experiment, self.settings, recode=recode)

    def take(self, run: RunPaths, state: State) -> None:
        """As the supervisor does: the run has left the queue, and stands so in its first attempt."""
        assert local_queue.withdraw(self.home, run)
        write_state(run, state, attempt=1)

    def codes(self) -> list[str]:
        return [submission.code for run in self.runs if (submission := read_submission(run))]


@pytest.fixture
def place(tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(supervisor, "start_detached", lambda *_, **__: None)
    monkeypatch.setattr(frozen_code, "ROOT", tmp_path / "checkout")
    return Place(tmp_path, shapes)


def shown(decisions: list[Decision]) -> list[tuple[Action, str]]:
    return [(decision.action, decision.code) for decision in decisions]


def test_a_run_goes_on_with_the_code_that_it_began_with(place: Place) -> None:
    first = present_code()
    assert shown(place.submit()) == [(Action.START, first)] * 2
    place.edit(2)
    place.take(place.runs[0], State.KILLED)
    assert shown(place.submit()) == [(Action.RESUME, first), (Action.LEAVE, first)]
    assert place.codes() == [first, first]
    place.take(place.runs[1], State.QUEUED)
    write_state(place.runs[1], State.KILLED, attempt=0)  # by the accounting: it never began
    assert shown(place.submit())[1] == (Action.START, present_code())
    assert place.codes() == [first, present_code()]


def test_recode_moves_what_waits_and_what_failed_and_leaves_what_runs(place: Place) -> None:
    first = present_code()
    place.submit()
    place.edit(2)
    second = present_code()
    place.take(place.runs[0], State.FAILED)
    assert shown(place.submit(recode=True)) == [(Action.RESUME, second), (Action.MOVE, second)]
    assert place.codes() == [second, second]
    assert len(list(place.home.queue.iterdir())) == 2
    assert queued_folders(place.home) == {str(run.folder.resolve()) for run in place.runs}
    assert read_state(place.runs[0]).attempt == 1
    assert shown(place.submit(recode=True)) == [(Action.LEAVE, second)] * 2
    place.edit(3)
    place.take(place.runs[0], State.RUNNING)
    place.take(place.runs[1], State.FINISHED)
    assert shown(place.submit(recode=True)) == [(Action.LEAVE, second), (Action.SKIP, second)]
    assert place.codes() == [second, second]
    kept = {folder.name for folder in code_folder(place.settings.run_root, first).parent.iterdir()}
    assert kept == {first, second}  # nothing was to be started with the third


def test_a_run_whose_start_comes_before_the_move_is_left(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    first = present_code()
    place.submit()
    place.edit(2)
    decided = decide([*prepare(place.experiment, place.settings)], place.settings, recode=True)
    for run in place.runs:
        place.take(run, State.RUNNING)
    monkeypatch.setattr(submit_module, "decide", lambda *_, **__: decided)
    assert shown(place.submit(recode=True)) == [(Action.LEAVE, first)] * 2
    assert place.codes() == [first, first]


@pytest.mark.parametrize(("started", "action"), [(False, Action.MOVE), (True, Action.LEAVE)])
def test_jobs_that_wait_are_withdrawn(
    place: Place, monkeypatch: pytest.MonkeyPatch, started: bool, action: Action
) -> None:
    """scancel ends only what pends; whatever the queue then still has, has started."""
    place.submit()
    for index, run in enumerate(place.runs):
        local_queue.withdraw(place.home, run)
        write_job(run, Job(name="tiny-1", index=index, id=f"12_{index}", output="", code="/code"))
    asked: list[list[str]] = []
    monkeypatch.setattr(slurm_submit, "ask", lambda command: asked.append(command) or "")
    monkeypatch.setattr(slurm_submit, "queued_jobs", lambda: {("tiny-1", 0): None} if started else {})
    waits = [Standing(read_state(run), queued=True) for run in place.runs]
    monkeypatch.setattr(decide_module, "standings", lambda runs: waits)
    place.edit(2)
    assert [entry.action for entry in place.submit(recode=True)] == [action, Action.MOVE]
    assert asked == [["scancel", "--quiet", "--state=PENDING", "12_0", "12_1"]]
    assert [run.job.exists() for run in place.runs] == [started, False]  # queued on this machine now


@pytest.mark.parametrize("harm", ["is gone", "was changed since"])
def test_a_code_that_is_not_there_any_more(place: Place, harm: str) -> None:
    place.submit()
    place.take(place.runs[0], State.KILLED)
    kept = code_folder(place.settings.run_root, present_code())
    place.edit(2)
    if harm == "is gone":
        shutil.rmtree(kept)
    else:
        (kept / "harness" / "more.py").write_text("")
    with pytest.raises(UserError, match=rf"{kept}: the copy of the code .* {harm}; .* harness submit --recode"):
        place.submit()
    assert queued_folders(place.home) == {str(place.runs[1].folder.resolve())}
    assert place.submit(recode=True)[0].action == Action.RESUME


def test_the_matrix_file_of_each_submit_is_kept(place: Place) -> None:
    place.submit()
    place.take(place.runs[0], State.KILLED)
    file = place.experiment.path
    first = file.read_text()
    file.write_text(f"{first}# another remark\n")
    place.submit()
    names = [submission.matrix for run in place.runs if (submission := read_submission(run))]
    kept = [(place.settings.run_root / ".matrix" / name).read_text() for name in names]
    assert kept == [f"{first}# another remark\n", first]


def test_a_queued_run_whose_code_is_harmed_fails_and_says_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.submit()
    shutil.rmtree(code_folder(place.settings.run_root, present_code()))
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.0)
    supervisor.supervise(place.home, jobs=2, tracking_uri="")
    states = [read_state(run) for run in place.runs]
    assert [state.state for state in states] == [State.FAILED] * 2
    assert all("is gone; put it back, or go on with the present code" in state.reason for state in states)


def test_a_copy_reads_what_a_newer_harness_has_written(place: Place) -> None:
    """Fields that it does not know are left out."""
    place.submit()
    run = place.runs[0]
    write_job(run, Job(name="tiny-1", index=0, id="12_0", output="", code="/code"))
    before = read_state(run), read_submission(run), read_job(run)
    for file in (run.state, run.submission, run.job):
        write_json(file, read_json(file) | {"news": [1]})
    assert (read_state(run), read_submission(run), read_job(run)) == before
