"""job.json of a run folder: which batch job has the run."""

from dataclasses import asdict, dataclass

from harness.errors import UserError
from harness.files import find_json, known_fields, write_json
from harness.run_paths import RunPaths


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The job that has a run. A launcher of another kind that takes the run removes it."""

    name: str  # of the array, which no other has: ids come again when a controller is killed
    index: int  # in the array
    id: str | None  # None: sbatch has not said yet that it takes the array
    output: str
    code: str  # the folder of the code that it runs
    cluster: str = ""  # SLURM's name of it: several may share a disk, and give the same ids


def read_job(paths: RunPaths) -> Job | None:
    """The job that has the run; None where none has.

    Raises UserError where the file is not one of ours.
    """
    plain = find_json(paths.job)
    try:
        return None if plain is None else Job(**known_fields(Job, plain))
    except TypeError:
        raise UserError(f"{paths.job}: does not name a job; remove it, then submit again") from None


def write_job(paths: RunPaths, job: Job) -> None:
    """Say which job has the run."""
    write_json(paths.job, asdict(job))
