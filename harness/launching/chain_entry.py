"""What a step of a chain runs: `python -m harness.launching.chain_entry CHAIN_FOLDER STEP|all NAME`."""

import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from harness.errors import UserError
from harness.launching.chain import (
    DONE,
    FAILED,
    REPORT,
    WAITING,
    WORKING,
    Step,
    job_ids,
    read_step,
    read_steps,
    submit_step,
    write_step,
)
from harness.launching.requeue import requeue
from harness.launching.slurm import Phase, own_job, parse_queue, phase, queue_command
from harness.launching.slurm_ask import ask
from harness.processes import signature
from harness.run_paths import RunPaths
from harness.run_spec import read_spec
from harness.run_state import CANCELLED, read_state
from harness.wording import count

PATIENCE = 2
"""Jobs in a row that may be warned before they have measured anything: the third would not, either."""


class Warned(Exception):
    """The job has been told that its end is near: by its time limit, or by a preemption."""


def main() -> int:
    """Do one step as a job of SLURM, or all steps on this machine; the exit code."""
    folder, wanted, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    if wanted == "all":
        return _all(folder, name)
    step = read_step(folder, wanted)
    if step is None or step.name != name or step.text == CANCELLED:
        return _give_way(wanted)
    signal.signal(signal.SIGUSR2, _warn)
    measured = _measured(step)
    try:
        if behind := _unfinished(folder, step):
            again = submit_step(folder, step, behind, dict(os.environ))
            _say(f"{wanted}: runs have jobs again ({', '.join(behind)}): goes on as job {again.job}")
        else:
            _carry_out(folder, step)
    except Warned:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        _go_on_later(folder, replace(step, fruitless=0 if _measured(step) > measured else step.fruitless + 1))
    return 0


def _all(folder: Path, name: str) -> int:
    _sign(folder, name)
    for number, step in enumerate(read_steps(folder)):
        if number == 0:
            _wait(step)
        now = read_step(folder, step.step)
        if now is None or now.name != name or now.text == CANCELLED:
            return _give_way(step.step)
        _carry_out(folder, now)
    return 0


def _give_way(step: str) -> int:
    _say(f"{step}: gives way to a later submit")
    return 0


def _tell(folder: Path, step: Step) -> None:
    """Keep how the step stands, unless a later submit has taken it over."""
    now = read_step(folder, step.step)
    if now is not None and now.name == step.name:
        write_step(folder, step)


def _warn(*_: object) -> None:
    raise Warned


def _go_on_later(folder: Path, step: Step) -> None:
    """Leave the step to the next job: this one once more or, where that is denied, a new one."""
    job = own_job(os.environ)
    assert job is not None  # nobody else is warned
    if step.fruitless >= PATIENCE:
        text = f"{PATIENCE} jobs in a row ended before they had measured a run: give more minutes in the cluster file"
        _tell(folder, replace(step, state=FAILED, text=text))
        return
    text = f"{_measured(step)} of {count(len(step.runs), 'run')} so far" if step.step != REPORT else ""
    _tell(folder, replace(step, state=WAITING, text=text))
    try:
        requeue(job, (), lambda: submit_step(folder, step, (), dict(os.environ)))
    except UserError as error:
        _tell(folder, replace(step, state=FAILED, text=f"{text}; it could not start the next job: {error}"))
    _say(f"{step.step}: told to end; {text or 'goes on'} in its next job")


def _sign(folder: Path, name: str) -> None:
    """Say which process does the steps."""
    for step in read_steps(folder):
        if step.name == name:
            _tell(folder, replace(step, **signature()))


def _wait(step: Step) -> None:
    """Until every run has ended; supervisors that were killed are replaced."""
    from harness.launching.prepare import PreparedRun
    from harness.launching.wait import wait
    from harness.settings import LOCAL, load_settings

    runs = _runs(step)
    here = replace(load_settings(), cluster=LOCAL)
    wait([PreparedRun(spec=read_spec(run), paths=run) for run in runs], here, lambda *_: None)


def _unfinished(folder: Path, step: Step) -> list[str]:
    """Jobs that come before the step and have not ended: those of the runs and of the step before."""
    own = [os.environ["SLURM_ARRAY_JOB_ID"] + "_0", None]
    before = [found for found in read_steps(folder) if step.step == REPORT != found.step]
    names = {found.job for found in before if found.job not in own}
    alive = {job.id for job in parse_queue(ask(queue_command())) if phase(job.state) != Phase.ENDED} if names else set()
    return [*job_ids(_runs(step)), *sorted(str(job) for job in names & alive)]


def _carry_out(folder: Path, step: Step) -> None:
    _tell(folder, replace(step, state=WORKING))
    began = time.monotonic()
    text, fine = _report(step) if step.step == REPORT else _benchmark(step)
    _say(f"{step.step}: {text} ({time.monotonic() - began:.0f} s)")
    _tell(folder, replace(step, state=DONE if fine else FAILED, text=text))


def _benchmark(step: Step) -> tuple[str, bool]:
    """Measure each run that has finished since it was measured last; what was done and left out, and whether all went

    well.
    """
    faults = []
    for paths in _runs(step):
        if not paths.result.exists():
            faults.append(f"left out {_named(paths)}: {read_state(paths).state}")
        elif not _is_measured(paths) and (said := _harness("benchmark", str(paths.folder))):
            faults.append(f"{_named(paths)} failed: {said.removeprefix(f'{read_spec(paths).name}: ')}")
    done = f"{_measured(step)} of {count(len(step.runs), 'run')}"
    return "; ".join([done, *faults]), not any(" failed: " in text for text in faults)


def _runs(step: Step) -> list[RunPaths]:
    return [RunPaths(Path(run)) for run in step.runs]


def _measured(step: Step) -> int:
    """How many of its runs have finished, and been measured since."""
    return sum(map(_is_measured, _runs(step)))


def _is_measured(paths: RunPaths) -> bool:
    files = (paths.result, paths.benchmark)
    return all(file.exists() for file in files) and paths.benchmark.stat().st_mtime > paths.result.stat().st_mtime


def _report(step: Step) -> tuple[str, bool]:
    """Report; what came of it. The matrix file is the one that was typed, where it still says what its copy does."""
    copy, typed = Path(step.words[0]), Path(step.typed)
    same = typed.is_file() and typed.read_bytes() == copy.read_bytes()
    words = (str(typed if same else copy), *step.words[1:])
    said = _harness("report", *words)
    return (said or f"harness report {shlex.join(words)}"), not said


def _harness(*words: str) -> str:
    """Run a command of this package; what it says last where it fails, else ""."""
    command = [sys.executable, "-P", "-m", "harness", *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    sys.stderr.write(done.stderr)
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return last.removeprefix("error: ") if done.returncode else ""


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _named(paths: RunPaths) -> str:
    spec = read_spec(paths)
    return f"{spec.name} seed {spec.seed}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
