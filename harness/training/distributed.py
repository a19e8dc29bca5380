"""The processes of one training, however they were started: alone, by torchrun, by SLURM or by submitit."""

import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from harness.errors import UserError
from harness.failures import Failure
from harness.processes import node_name
from harness.training.meeting import meet

TIMEOUT = timedelta(hours=2)
"""Of waiting for each other: longer than rank 0 may take to score, as those that hang are watch.py's to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process's place among all, and its device."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    device: torch.device = torch.device("cpu")

    @property
    def main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    @property
    def gpus(self) -> int:
        """Of all processes, one each; 0 on a CPU."""
        return self.world if self.device.type == "cuda" else 0

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            dist.barrier(group=_control())

    def any(self, flag: bool) -> bool:
        """Whether any process says so; all get the same answer. No device is involved."""
        return bool(self.maximum(flag))

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def maximum(self, value: float) -> float:
        """The largest over all processes."""
        return self.maxima([value])[0]

    def maxima(self, values: list[float]) -> list[float]:
        """The largest of each value over all processes; all get the same. No device is involved."""
        if self.world == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=_control())
        return [float(value) for value in tensor]

    def gather(self, value: Any) -> list[Any]:
        """Every process's value (plain data), by rank, on all of them. No device is involved."""
        if self.world == 1:
            return [value]
        values = [None] * self.world
        dist.all_gather_object(values, value, group=_control())
        return values


def find_ranks(environ: Mapping[str, str] | None = None) -> tuple[int, int, int]:
    """(rank, world, local rank) as torchrun, SLURM or submitit's local launcher say it in the environment."""
    env = os.environ if environ is None else environ
    for names in (
        ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
        ("SUBMITIT_LOCAL_GLOBALID", "SUBMITIT_LOCAL_NTASKS", "SUBMITIT_LOCAL_LOCALID"),
        ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    ):
        if all(name in env for name in names):
            rank, world, local = (int(env[name]) for name in names)
            return rank, world, local
    return 0, 1, 0


def start(*, gpu: bool, meeting: Path | None = None) -> Ranks:
    """Join the other processes: NCCL with a GPU a process, else gloo.

    gpu: use GPUs where there are any. meeting: the file by which they find each other (meeting.py); None takes
    MASTER_ADDR and MASTER_PORT.
    Raises UserError where there are more processes than GPUs on this machine, or rank 0's has GPUs and this one none.
    """
    rank, world, local_rank = find_ranks()
    cuda = gpu and torch.cuda.is_available()
    if cuda and local_rank >= torch.cuda.device_count():
        raise UserError(
            f"process {local_rank} of this machine has no GPU of its own: there are {torch.cuda.device_count()}"
        )
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world > 1:
        # Or NCCL's own thread kills the process at a CUDA error, before it can say which.
        os.environ.setdefault("TORCH_NCCL_RETHROW_CUDA_ERRORS", "0")
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29500")
        store = meet(meeting, rank=rank, world=world, timeout=TIMEOUT) if meeting else None
        if store is not None:
            _require_same_device(store, rank, device.type)
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            store=store,
            rank=rank,
            world_size=world,
            timeout=TIMEOUT,
        )
    return Ranks(rank=rank, world=world, local_rank=local_rank, device=device)


def _require_same_device(store: TCPStore, rank: int, kind: str) -> None:
    """Raise UserError where rank 0 has another kind of device: by NCCL and by gloo they would wait until TIMEOUT."""
    if rank == 0:
        store.set("device", kind)
    elif (first := store.get("device").decode()) != kind:
        text = f"{node_name()} trains on {kind}, rank 0 on {first}: one of their nodes has lost its GPUs"
        raise UserError(f"{text}; look at both with `harness doctor`", failure=Failure.NODE)


def stop(code: int = 0) -> None:
    """Leave the other processes.

    code: of a failure. With NCCL this process then ends here, with that code: taking leave of the others would wait
    until they do so, too, and they may be waiting for what failed here (nccl.h on ncclCommFinalize).
    """
    if not dist.is_initialized():
        return
    if code and dist.get_backend() == "nccl":
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    _groups.clear()
    dist.destroy_process_group()


_groups: dict[str, Any] = {}


def _control() -> Any:
    """A gloo group for decisions on the host, so that they never wait for a device."""
    if "control" not in _groups:
        is_gloo = dist.get_backend() == "gloo"
        _groups["control"] = dist.group.WORLD if is_gloo else dist.new_group(backend="gloo", timeout=TIMEOUT)
    return _groups["control"]


def replicate(model: nn.Module, ranks: Ranks) -> nn.Module:
    """The model, wrapped to average gradients over all processes where there are several."""
    if ranks.world == 1:
        return model
    ids = [ranks.local_rank] if ranks.device.type == "cuda" else None
    replica = DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)
    replica.broadcast_buffers = False  # share_buffers does it, where it is needed; the argument of that name is leaving
    return replica


def share_buffers(model: nn.Module, ranks: Ranks) -> None:
    """Give all processes rank 0's buffers: where batch norm is trained, each has running statistics of its own."""
    if ranks.world > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def without_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Accumulate gradients without exchanging them."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()
