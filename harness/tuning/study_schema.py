"""The schema of a study file. What its parts mean together is study_file.py's to say."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.matrix_file import Resources, Scalar, ShortenBlock

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Count = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class RangeBlock(_Strict):
    low: float
    high: float
    step: float | None = None
    log: bool = False
    integer: bool = False


class ObjectiveBlock(_Strict):
    metric: str
    direction: Literal["maximize", "minimize"] | None = None


class BudgetBlock(_Strict):
    trials: Count | None = None
    gpu_hours: Annotated[float, Field(gt=0)] | None = None
    parallel: Count | None = None


class SamplerBlock(_Strict):
    kind: Literal["tpe", "gp", "nsga2", "random"] = "tpe"
    seed: Seed = 0
    startup_trials: Count | None = None


class PrunerBlock(_Strict):
    kind: Literal["none", "median", "percentile", "hyperband"] = "none"
    startup_trials: Annotated[int, Field(ge=0)] | None = None
    warmup: Annotated[int, Field(ge=0)] | None = None
    percentile: Annotated[float, Field(gt=0, lt=100)] | None = None


class StudyFile(_Strict):
    name: str | None = None
    description: str = ""
    cell: dict[str, Scalar] = {}
    recipe: dict[str, Any] = {}
    shorten: ShortenBlock = ShortenBlock()
    resources: Resources = Resources()
    seed: Seed = 0
    search: dict[str, RangeBlock | list[Any]] = {}
    objective: str | ObjectiveBlock | list[str | ObjectiveBlock] = []
    budget: BudgetBlock = BudgetBlock()
    sampler: SamplerBlock = SamplerBlock()
    pruner: PrunerBlock = PrunerBlock()
    storage: str | None = None
    confirm_seeds: Annotated[list[Seed], Field(min_length=3)] = [101, 102, 103]
