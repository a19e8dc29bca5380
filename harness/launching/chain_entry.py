"""What a step of a chain runs: `python -m harness.launching.chain_entry CHAIN_FOLDER STEP|all NAME`."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from harness.errors import UserError
from harness.launching.chain import DONE, FAILED, STEPS, WORKING, Step, job_ids, read_step, submit_step, write_step
from harness.launching.slurm import Phase, parse_queue, phase, queue_command
from harness.launching.slurm_jobs import ask
from harness.processes import start_time
from harness.runs import RunPaths, read_spec, read_state


def main() -> int:
    """Do one step as a job of SLURM, or all steps on this machine; the exit code."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # the warning before a preemption, which begins the step anew
    folder, wanted, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    steps = STEPS if wanted == "all" else (wanted,)
    if wanted == "all":
        _sign(folder, name)
    for number, word in enumerate(steps):
        step = read_step(folder, word)
        if step is None or step.name != name:
            _say(f"{word}: gives way to a later submit")
            return 0
        if wanted == "all":
            if number == 0:
                _wait(step)
        elif behind := _unfinished(folder, step):
            again = submit_step(folder, step, behind, dict(os.environ))
            _say(f"{word}: runs have jobs again ({', '.join(behind)}): goes on as job {again.job}")
            return 0
        _carry_out(folder, step)
    return 0


def _sign(folder: Path, name: str) -> None:
    """Say which process does the steps."""
    for step in (found for word in STEPS if (found := read_step(folder, word))):
        if step.name == name:
            write_step(folder, replace(step, host=socket.gethostname(), pid=os.getpid(), started=start_time()))


def _wait(step: Step) -> None:
    """Until every run has ended; supervisors that were killed are replaced."""
    from harness.launching.prepare import PreparedRun
    from harness.launching.submit import LOCAL, wait
    from harness.settings import load_settings

    runs = [RunPaths(Path(run)) for run in step.runs]
    here = replace(load_settings(), cluster=LOCAL)
    wait([PreparedRun(spec=read_spec(run), paths=run) for run in runs], here, lambda *_: None)


def _unfinished(folder: Path, step: Step) -> list[str]:
    """Jobs that come before the step and have not ended: those of the runs and of the step before."""
    own = [os.environ["SLURM_ARRAY_JOB_ID"] + "_0", None]
    before = [read_step(folder, word) for word in STEPS[: STEPS.index(step.step)]]
    names = {found.job for found in before if found and found.job not in own}
    alive = {job.id for job in parse_queue(ask(queue_command())) if phase(job.state) != Phase.ENDED} if names else set()
    return [*job_ids(RunPaths(Path(run)) for run in step.runs), *sorted(str(job) for job in names & alive)]


def _carry_out(folder: Path, step: Step) -> None:
    write_step(folder, replace(step, state=WORKING))
    began = time.monotonic()
    text, fine = _benchmark(step) if step.step == "benchmark" else _report(step)
    _say(f"{step.step}: {text} ({time.monotonic() - began:.0f} s)")
    write_step(folder, replace(step, state=DONE if fine else FAILED, text=text))


def _benchmark(step: Step) -> tuple[str, bool]:
    """Measure each run that has finished since it was measured last; what was done and left out, and whether it went

    well.
    """
    done, faults = 0, []
    for paths in (RunPaths(Path(run)) for run in step.runs):
        if not paths.result.exists():
            faults.append(f"left out {_named(paths)}: {read_state(paths).state}")
        elif paths.benchmark.exists() and paths.benchmark.stat().st_mtime > paths.result.stat().st_mtime:
            done += 1
        elif said := _harness("benchmark", str(paths.folder)):
            faults.append(f"{_named(paths)} failed: {said}")
        else:
            done += 1
    return "; ".join([f"{done} of {len(step.runs)} runs", *faults]), not any(" failed: " in text for text in faults)


def _report(step: Step) -> tuple[str, bool]:
    said = _harness("report", *step.words)
    return (said or f"harness report {' '.join(step.words)}"), not said


def _harness(*words: str) -> str:
    """Run a command of this package; what it says last where it fails, else ""."""
    command = [sys.executable, "-P", "-m", "harness", *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    sys.stderr.write(done.stderr)
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1] if done.returncode else ""


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
