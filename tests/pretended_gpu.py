"""A GPU that is not there: tensors that say they are on one, with their values on the CPU.

What runs on them takes the branches of a GPU, and an operation that mixes devices fails as it does there. Kernels,
streams, memory and autocast, which casts nothing here, are not pretended: tests that need those are marked gpu.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from harness.detection.mask_rcnn import MaskRCNN

GPU = torch.device("cuda", 0)
COPIES = ("_to_copy", "copy_")
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")  # take indices from the host, too
WAITING = ("_local_scalar_dense", "nonzero", "nms", "masked_select", "_unique2", "equal")

waits: Counter[str] = Counter()
"""Operations for which the host would have waited for the GPU, by name."""


class Pretended(Tensor):
    """A tensor "on the GPU". To torch's own C++ it is a meta tensor, which has no kernels to be run by mistake."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> "Pretended":
        made = Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device="meta",
        )
        made.values = values
        return made

    device = property(lambda self: GPU)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_meta = property(lambda self: False)  # type: ignore[assignment]

    def tolist(self) -> Any:
        waits["tolist"] += 1
        return self.values.tolist()

    def __repr__(self, **_: Any) -> str:
        return f"Pretended({self.values})"

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Catches what makes tensors "on the GPU" of none."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


def _values(value: Any) -> Any:
    return value.values if isinstance(value, Pretended) else value


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = function.overloadpacket.__name__
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    ours = [isinstance(tensor, Pretended) for tensor in tensors]
    if any(ours) and name not in COPIES + INDEXING:
        strangers = [tuple(t.shape) for t, own in zip(tensors, ours, strict=True) if not own and t.dim()]
        assert not strangers, f"{function}: tensors on the CPU of shapes {strangers} among those on the GPU"
    if any(ours) and name in WAITING:
        waits[name] += 1
    device = kwargs.get("device")
    on_gpu = ours[0] if name == "copy_" else any(ours) if device is None else device.type != "cpu"
    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu"), **({"pin_memory": False} if "pin_memory" in kwargs else {})}
    result = function(*tree_map(_values, args), **tree_map(_values, kwargs))
    if name.endswith("_") and not name.startswith("_"):
        return args[0]
    return tree_map(lambda leaf: Pretended(leaf) if isinstance(leaf, Tensor) else leaf, result) if on_gpu else result


class _Event:
    """A torch.cuda.Event whose work is done."""

    def __init__(self, **_: Any) -> None: ...

    def record(self, stream: object = None) -> None: ...

    def synchronize(self) -> None: ...

    def elapsed_time(self, other: object) -> float:
        return 1.0


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Within this, device "cuda" exists."""
    told: dict[str, Callable[..., Any]] = {
        "current_stream": lambda device=None: None,
        "synchronize": lambda device=None: None,
        "get_device_name": lambda device=None: "Pretended GPU",
        "get_device_properties": lambda device=None: SimpleNamespace(uuid="none"),
        "max_memory_allocated": lambda device=None: 2**20,
        "reset_peak_memory_stats": lambda device=None: None,
        "_lazy_init": lambda: None,
    }
    plain = torch.tensor

    def tensor(data: Any, *, device: Any = None, **more: Any) -> Tensor:
        made = plain(data, **more)
        return made if device is None else made.to(device)

    with pytest.MonkeyPatch.context() as patch, _Factories():
        patch.setattr(torch, "tensor", tensor)
        patch.setattr(torch, "inference_mode", torch.no_grad)  # a subclass of Tensor cannot be an inference tensor
        patch.setattr(MaskRCNN, "detect", torch.no_grad()(MaskRCNN.detect.__wrapped__))
        for name, function in told.items():
            patch.setattr(torch.cuda, name, function)
        patch.setattr(torch.cuda, "Event", _Event)
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        waits.clear()
        yield
