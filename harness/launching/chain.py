"""What comes after the trainings of an experiment: a benchmark of what has finished, then the report.

On a cluster each step is a job that SLURM starts when the jobs before it have ended, however they did: a benchmark for
each kind of job that the runs have, so that each run is measured on its own kind of node, and one report. A job that
finds that trainings have jobs again (a new job in place of a requeue, or a second submit) submits itself anew behind
those; one that is warned of its time limit or a preemption goes on in its next job, where what is measured stays so.
On this machine one process waits and does all. What has not finished is left out, and said.
"""

import os
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from harness.errors import UserError
from harness.files import known_fields, read_json, write_json, write_text
from harness.launching import slurm
from harness.launching.cluster import Cluster, JobShape
from harness.launching.frozen_code import code_folder, freeze, present_code
from harness.launching.job_file import Job, read_job
from harness.launching.prepare import PreparedRun
from harness.launching.remedies import job_shape
from harness.launching.slurm_ask import ask, queued_jobs
from harness.launching.slurm_script import Batch, batch_script, sbatch_command, submission_environment
from harness.matrix import Experiment
from harness.processes import has_died
from harness.provenance import python_path
from harness.run_paths import RunPaths, experiment_folder
from harness.settings import Settings

BENCHMARK, REPORT = "benchmark", "report"
"""Steps; further benchmarks are benchmark-2, benchmark-3 and so on."""
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
    words: tuple[str, ...]  # the experiment, as the report's command takes it: a copy of the matrix file
    runs: tuple[str, ...]  # their folders
    code: str  # the folder of the code that it runs
    typed: str = ""  # the matrix file that was copied, as it was typed
    host: str = ""  # of the process that does it on this machine, and what else processes.signature tells of it
    space: str = ""
    pid: int = 0
    started: float = 0.0
    state: str = WAITING
    text: str = ""  # what came out
    fruitless: int = 0  # jobs in a row that were warned before they had measured anything

    @property
    def ended(self) -> bool:
        """Whether it has said how it ended."""
        return self.state in (DONE, FAILED)


def chain_folder(run_root: Path, experiment: str) -> Path:
    """Where the steps of an experiment's chain are kept."""
    return experiment_folder(run_root, experiment) / ".chain"


def read_step(folder: Path, step: str) -> Step | None:
    """A step as it was left; None where there is no such step."""
    file = folder / f"{step}.json"
    if not file.exists():
        return None
    plain = known_fields(Step, read_json(file))
    return Step(**plain | {name: tuple(plain[name]) for name in ("words", "runs")})


def read_steps(folder: Path) -> list[Step]:
    """All steps of a chain, in their order."""
    names = sorted(file.stem for file in folder.glob("*.json"))
    return [step for name in names if (step := read_step(folder, name))]


def write_step(folder: Path, step: Step) -> None:
    """Keep it."""
    write_json(folder / f"{step.step}.json", asdict(step))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A chain that can be started."""

    folder: Path
    matrix: Path  # the file to copy
    steps: tuple[Step, ...]
    scripts: tuple[str, ...]  # of each step's jobs; none on this machine


def plan_chain(
    experiment: Experiment, runs: Sequence[PreparedRun], options: Sequence[str], cluster: Cluster | None, root: Path
) -> Chain:
    """What is to come after these runs. options: of the report's command, besides the experiment; root: of runs."""
    folder = chain_folder(root, experiment.name).resolve()
    name = f"{experiment.name}-after-{uuid.uuid4().hex[:8]}"
    logs, code = root / ".slurm" / name, code_folder(root, present_code())
    words = (str(folder / experiment.path.name), *options)
    kinds = list(_kinds(runs, cluster).items())
    parts = [(f"{BENCHMARK}-{number}" if number > 1 else BENCHMARK, *kind) for number, kind in enumerate(kinds, 1)]
    parts.append((REPORT, kinds[0][0] and replace(kinds[0][0], gpus_per_node=0), list(runs)))
    steps, scripts = [], []
    for word, shape, own in parts:
        paths = tuple(str(run.paths.folder.resolve()) for run in own)
        step = Step(
            step=word,
            name=name,
            job=None,
            output=str(logs / OUTPUT),
            words=words,
            typed=str(experiment.path),
            runs=paths,
            code=str(code),
        )
        steps.append(step)
        if cluster is not None and shape is not None:
            scripts.append(batch_script(_batch(step, folder, cluster, shape)))
    return Chain(folder=folder, matrix=experiment.path, steps=tuple(steps), scripts=tuple(scripts))


def _kinds(runs: Iterable[PreparedRun], cluster: Cluster | None) -> dict[JobShape | None, list[PreparedRun]]:
    """The runs by the jobs that benchmark them: as their own, but of one process, with a GPU, if they have some."""
    kinds: dict[JobShape | None, list[PreparedRun]] = {}
    for run in runs:
        own = job_shape(run, cluster) if cluster else None
        kinds.setdefault(own and replace(own, nodes=1, gpus_per_node=min(1, own.gpus_per_node)), []).append(run)
    return kinds


def start_chain(chain: Chain, settings: Settings) -> list[Step]:
    """Have the experiment benchmarked and reported when its runs have ended; a chain that waits already gives way.

    Raises UserError where the cluster refuses a step.
    """
    freeze(settings.run_root)
    for file in chain.folder.glob("*.json"):
        file.unlink()
    write_text(chain.folder / chain.matrix.name, chain.matrix.read_text(encoding="utf-8"))
    environ = os.environ | {"HARNESS_TRACKING_URI": settings.tracking_uri}
    steps = list(chain.steps)
    if not chain.scripts:
        for step in steps:
            write_step(chain.folder, step)
        _start_here(chain, environ)
        return steps
    waiting = job_ids(RunPaths(Path(run)) for run in steps[-1].runs)
    for number, (step, script) in enumerate(zip(steps, chain.scripts, strict=True)):
        write_text(script_of(step), script)
        before = waiting if step.step != REPORT else [*waiting, *(str(found.job) for found in steps[:number])]
        steps[number] = submit_step(chain.folder, step, before, environ)
    return steps


def commands(chain: Chain) -> str:
    """The commands and scripts of a chain's jobs, with words where ids are not known yet."""
    texts = []
    for step, script in zip(chain.steps, chain.scripts, strict=True):
        after = ["JOBS_OF_THE_RUNS"]
        after += [f"JOB_OF_{found.step}" for found in chain.steps[:-1]] if step.step == REPORT else []
        texts.append(f"# {shlex.join(sbatch_command(script_of(step), after=tuple(after)))}\n{script}")
    return "\n".join(texts)


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
    steps = read_steps(folder)
    queue: dict[str, slurm.QueuedJob] = {}
    if any(step.job and not step.ended for step in steps):
        queue = {job.id: job for job in slurm.parse_queue(ask(slurm.queue_command()))}
    for step in steps:
        text = f": {step.text}" if step.text else ""
        output = f"; output in {step.output}" if Path(step.output).exists() else ""
        yield f"{step.step}: {step.state if step.ended else _going_on(step, queue)}{text}{output}"


def _going_on(step: Step, queue: dict[str, slurm.QueuedJob]) -> str:
    """Of a step that has not said how it ended."""
    if step.job is None:
        said = "its process died without a word; harness submit --then-report starts it again"
        return said if has_died(step) else step.state
    found = queue.get(step.job)
    if found is None or slurm.phase(found.state) == slurm.Phase.ENDED:
        return f"job {step.job} is gone without a word; harness submit --then-report starts it again"
    return f"{step.state}, job {step.job}{f' ({found.reason})' if found.reason else ''}"


def _uri(environ: dict[str, str]) -> dict[str, str]:
    return {"HARNESS_TRACKING_URI": environ["HARNESS_TRACKING_URI"]}


def _batch(step: Step, folder: Path, cluster: Cluster, shape: JobShape) -> Batch:
    return Batch(
        name=step.name,
        cluster=cluster,
        shape=shape,
        folders=(folder,),
        entry=("harness.launching.chain_entry", step.step, step.name),
        code=Path(step.code),
        python=sys.executable,
        logs=Path(step.output).parent,
    )


def _start_here(chain: Chain, environ: dict[str, str]) -> None:
    first = chain.steps[0]
    command = [sys.executable, "-P", "-m", "harness.launching.chain_entry", str(chain.folder), "all", first.name]
    Path(first.output).parent.mkdir(parents=True, exist_ok=True)
    with Path(first.output).open("ab") as log:
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environ | {"PYTHONPATH": python_path(Path(first.code))},
            start_new_session=True,
        )
