"""The schema of a matrix file. What its parts mean together is matrix.py's to say."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Scalar = bool | int | float | str
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Resources(_Strict):
    """What one run asks for. None of it changes results."""

    nodes: Annotated[int, Field(ge=1)] = 1
    gpus_per_node: Annotated[int, Field(ge=0)] = 8
    cpus_per_gpu: Annotated[int, Field(ge=1)] = 5
    memory_gb: Annotated[int, Field(ge=1)] | None = None
    minutes: Annotated[int, Field(ge=1)] = 2880
    workers: Annotated[int, Field(ge=0)] = 2


class ShortenBlock(_Strict):
    epochs: Annotated[int, Field(ge=1)] | None = None
    iterations_per_epoch: Annotated[int, Field(ge=1)] | None = None
    image_scale: Annotated[float, Field(gt=0, le=1)] | None = None
    eval_images: Annotated[int, Field(ge=1)] | None = None


class Override(_Strict):
    cells: str | list[str]
    recipe: dict[str, Any] = {}
    resources: Resources = Resources()  # the keys that are given change those of the experiment


class TableBlock(_Strict):
    title: Annotated[str, Field(min_length=1)]
    cells: dict[str, Scalar | list[Scalar]] | list[str] | str


class MatrixFile(_Strict):
    name: str | None = None
    description: str = ""
    seeds: Annotated[list[Annotated[int, Field(ge=0, le=2**32 - 1)]], Field(min_length=1)] = [0]
    axes: dict[str, Scalar | list[Scalar]] = {}
    paired: list[dict[str, list[Scalar]]] = []
    include: list[dict[str, Scalar | list[Scalar]]] = []
    exclude: list[dict[str, Scalar | list[Scalar]]] = []
    recipe: dict[str, Any] = {}
    shorten: ShortenBlock = ShortenBlock()
    resources: Resources = Resources()
    overrides: list[Override] = []
    tables: list[TableBlock] = []
