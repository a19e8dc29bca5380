"""What comes after the trainings of an experiment: a benchmark of what has finished, then the report.

On a cluster each step is a job that SLURM starts when the jobs before it have ended, however they did. A job that finds
that trainings have jobs again (a new job in place of a requeue, or a second submit) submits itself anew behind those.
On this machine one process waits and does both. What has not finished is left out, and said.
"""

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from harness.errors import UserError
from harness.files import read_json, write_json, write_text
from harness.launching import slurm
from harness.launching.cluster import Cluster, JobShape
from harness.launching.frozen_code import freeze, python_path
from harness.launching.slurm_jobs import Job, ask, queued_jobs, read_job
from harness.launching.slurm_script import Batch, batch_script, sbatch_command, submission_environment
from harness.matrix import Experiment
from harness.processes import is_working
from harness.runs import RunPaths, experiment_folder
from harness.settings import Settings

STEPS = ("benchmark", "report")
"""In their order."""
OUTPUT = "chain.out"
"""Of all steps, on this machine."""
WAITING, WORKING, DONE, FAILED = "waiting", "working", "done", "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of the chain: RUN_ROOT/EXPERIMENT/.chain/STEP.json."""

    step: str
    name: str  # of its jobs, or of the process that does it; another submit gives the chain another name
    job: str | None  # of SLURM; None on this machine, and until sbatch has said it
    output: str  # file
    words: tuple[str, ...]  # the experiment, as the report's command takes it
    runs: tuple[str, ...]  # their folders
    code: str  # the folder of the code that it runs
    host: str = ""  # and pid, of the process that does it on this machine
    pid: int = 0
    started: float = 0.0
    state: str = WAITING
    text: str = ""  # what came out

    @property
    def ended(self) -> bool:
        """Whether it has said how it ended."""
        return self.state in (DONE, FAILED)


def chain_folder(run_root: Path, experiment: str) -> Path:
    """Where the steps of an experiment's chain are kept."""
    return experiment_folder(run_root, experiment) / ".chain"


def read_step(folder: Path, step: str) -> Step | None:
    """A step as it was left; None where there is no chain."""
    file = folder / f"{step}.json"
    if not file.exists():
        return None
    plain = read_json(file)
    return Step(**plain | {name: tuple(plain[name]) for name in ("words", "runs")})


def write_step(folder: Path, step: Step) -> None:
    """Keep it."""
    write_json(folder / f"{step.step}.json", asdict(step))


def start_chain(
    experiment: Experiment,
    runs: Sequence[RunPaths],
    words: Sequence[str],
    cluster: Cluster | None,
    shape: JobShape,
    settings: Settings,
) -> list[Step]:
    """Have the experiment benchmarked and reported when its runs have ended; a chain that waits already gives way.

    words: the experiment as the report's command takes it, from this working folder. shape: of a job of its runs.
    Raises UserError where the cluster refuses a step.
    """
    folder = chain_folder(settings.run_root, experiment.name)
    paths = tuple(str(run.folder.resolve()) for run in runs)
    name = f"{experiment.name}-after-{uuid.uuid4().hex[:8]}"
    logs = settings.run_root / ".slurm" / name
    code = freeze(settings.run_root)
    steps = [
        Step(step=step, name=name, job=None, output=str(logs / OUTPUT), words=tuple(words), runs=paths, code=str(code))
        for step in STEPS
    ]
    environ = os.environ | {"HARNESS_TRACKING_URI": settings.tracking_uri}
    if cluster is None:
        for step in steps:
            write_step(folder, step)
        _start_here(folder, name, logs, code, environ)
        return steps
    waiting = job_ids(runs)
    for number, step in enumerate(steps):
        batch = _batch(step, folder, cluster, shape, code, logs)
        write_text(script_of(step), batch_script(batch))
        steps[number] = submit_step(folder, step, waiting, environ)
        waiting = [str(steps[number].job)]
    return steps


def script_of(step: Step) -> Path:
    """The script of a step's jobs, which a job submits again."""
    return Path(step.output).parent / f"{step.step}.sh"


def submit_step(folder: Path, step: Step, after: Iterable[str], environ: dict[str, str]) -> Step:
    """Submit a step behind jobs; the step as it waits then."""
    write_step(folder, replace(step, job=None, state=WAITING, text=""))
    try:
        told = ask(sbatch_command(script_of(step), after=tuple(after)), submission_environment(environ) | _uri(environ))
    except UserError as error:
        write_step(folder, replace(step, job=None, state=FAILED, text=str(error)))
        raise
    job = f"{slurm.parse_submitted(told)}_0"
    submitted = replace(step, job=job, output=str(Path(step.output).with_name(f"{job}.out")), state=WAITING, text="")
    write_step(folder, submitted)
    return submitted


def job_ids(runs: Iterable[RunPaths]) -> list[str]:
    """The jobs of these runs that wait or work. Raises UserError where SLURM does not answer."""
    jobs = [job for paths in runs if (job := read_job(paths))]
    queue = queued_jobs() if jobs else {}
    return list(dict.fromkeys(queue[job.name, job.index].id for job in jobs if _waits_or_works(job, queue)))


def _waits_or_works(job: Job, queue: dict[tuple[str, int], slurm.QueuedJob]) -> bool:
    found = queue.get((job.name, job.index))
    return found is not None and slurm.phase(found.state) != slurm.Phase.ENDED


def lines(run_root: Path, experiment: str) -> Iterator[str]:
    """What there is to say of the chain, a line a step; nothing where there is none.

    Raises UserError where a step has a job and SLURM does not answer.
    """
    folder = chain_folder(run_root, experiment)
    steps = [found for name in STEPS if (found := read_step(folder, name))]
    queue: dict[str, slurm.QueuedJob] = {}
    if any(step.job and not step.ended for step in steps):
        queue = {job.id: job for job in slurm.parse_queue(ask(slurm.queue_command()))}
    for step in steps:
        text = f": {step.text}" if step.text else ""
        yield f"{step.step}: {step.state if step.ended else _going_on(step, queue)}{text}; output in {step.output}"


def _going_on(step: Step, queue: dict[str, slurm.QueuedJob]) -> str:
    """Of a step that has not said how it ended."""
    if step.job is None:
        died = step.host == socket.gethostname() and not is_working(step.pid, step.started)
        return "its process died without a word; harness submit --then-report starts it again" if died else step.state
    found = queue.get(step.job)
    if found is None or slurm.phase(found.state) == slurm.Phase.ENDED:
        return f"job {step.job} is gone without a word; harness submit --then-report starts it again"
    return f"{step.state}, job {step.job}{f' ({found.reason})' if found.reason else ''}"


def _uri(environ: dict[str, str]) -> dict[str, str]:
    return {"HARNESS_TRACKING_URI": environ["HARNESS_TRACKING_URI"]}


def _batch(step: Step, folder: Path, cluster: Cluster, shape: JobShape, code: Path, logs: Path) -> Batch:
    """A job of one process: with a GPU, where the runs have some, to benchmark."""
    gpus = min(1, shape.gpus_per_node) if step.step == "benchmark" else 0
    return Batch(
        name=step.name,
        cluster=cluster,
        shape=replace(shape, nodes=1, gpus_per_node=gpus),
        folders=(folder.resolve(),),
        entry=("harness.launching.chain_entry", step.step, step.name),
        code=code,
        python=sys.executable,
        logs=logs,
    )


def _start_here(folder: Path, name: str, logs: Path, code: Path, environ: dict[str, str]) -> None:
    logs.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "harness.launching.chain_entry", str(folder.resolve()), "all", name]
    with (logs / OUTPUT).open("ab") as log:
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environ | {"PYTHONPATH": python_path(code)},
            start_new_session=True,
        )
