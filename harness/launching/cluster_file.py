"""The schema of a cluster file. What its parts mean together is cluster.py's to say."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_Text = Annotated[str, Field(min_length=1)]
_Count = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ShapeBlock(_Strict):
    """What one job asks for; a key that is given stands above the matrix file's."""

    partition: _Text | None = None
    account: _Text | None = None
    qos: _Text | None = None
    constraint: _Text | None = None
    nodes: _Count | None = None
    gpus_per_node: Annotated[int, Field(ge=0)] | None = None
    cpus_per_gpu: _Count | None = None
    memory_gb: _Count | None = None
    minutes: _Count | None = None


class Override(ShapeBlock):
    cells: str | list[str]


class ClusterFile(ShapeBlock):
    description: str = ""
    overrides: list[Override] = []
    array_parallelism: _Count | None = None
    signal_delay_s: Annotated[int, Field(ge=1, le=65535)] = 120
    modules: list[_Text] = []
    setup: list[_Text] = []
    environment: dict[str, str | int] = {}
    container: _Text | None = None
    python: _Text | None = None
    staging: _Text | None = None
