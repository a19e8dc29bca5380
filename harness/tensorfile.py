"""Files of torch.save, read as tensors and plain data alone: nothing in them is ever executed.

torch's weights_only reader refuses every class and function that is not on its list. Where a file holds objects of
other classes (the `meta` of a published checkpoint does), a stand-in is put on the list under the class's name, so that
what is plain in the object is read and the class itself is never looked for. A file that wants something called is
refused by the name of what it would call.
"""

import importlib.util
import os
import re
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

from harness.errors import UserError

NUMERIC = re.compile(r"[iufb]\d+")
"""The codes of numpy's plain numbers."""


def load_tensors(path: Path) -> Any:
    """The file's content, on the CPU.

    Numpy's numbers become Python's; an object of a class that torch does not know becomes an OrderedDict of what it
    held. Raises UserError where the file is missing, damaged, or would have to call something (which it names).
    """
    import torch

    stand_ins = _numpy()
    while True:
        try:
            with torch.serialization.safe_globals([*stand_ins.values()]):
                return torch.load(path, map_location="cpu", weights_only=True)
        except (FileNotFoundError, IsADirectoryError) as error:
            what = "is a folder" if isinstance(error, IsADirectoryError) else "no such file"
            inside = max([*path.glob("*.pth"), *path.glob("checkpoints/*.pth")], key=os.path.getmtime, default=None)
            hint = f", such as {inside}" if inside else ""
            raise UserError(f"{path}: {what}; expected a checkpoint (.pth){hint}") from None
        except _CallRefusedError as error:
            raise _refusal(path, f"reading it would execute {error}, which is refused") from None
        except Exception as error:  # torch raises many kinds for a broken file
            unknown = re.search(r"GLOBAL (\S+)", str(error))
            if unknown is None:
                reason = error.strerror if isinstance(error, OSError) else None
                raise _refusal(path, reason or "damaged, or not a file of torch.save") from None
            name = unknown[1]
            if name in stand_ins or "." not in name:  # blocked by torch by all means, or a built-in function
                raise _refusal(path, f"reading it would execute {name}, which is refused") from None
            stand_ins[name] = _named(name, _stand_in())


def _refusal(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: cannot be read as plain tensors: {reason}")


class _CallRefusedError(Exception):
    """The file wants something called that can be found here."""


class _Uncalled(type):
    """The type of stand-ins: they make inert objects (pickle's NEWOBJ), and are not called (its REDUCE).

    What belongs to a package that is not installed could not be executed by anybody here; its arguments are dropped.
    """

    def __call__(cls, *arguments: Any) -> Any:
        name = f"{cls.__module__}.{cls.__qualname__}"
        package = name.split(".")[0]
        if package in sys.modules or importlib.util.find_spec(package) is not None:
            raise _CallRefusedError(name)
        return OrderedDict()


def _stand_in() -> type:
    def new(cls: type, *arguments: Any) -> OrderedDict[Any, Any]:
        return OrderedDict()  # torch's reader fills it with the items and attributes of the object

    return _Uncalled("StandIn", (), {"__new__": new})


def _named(full_name: str, value: Any) -> Any:
    """The value under another name, by which torch knows it."""
    value.__module__, _, value.__qualname__ = full_name.rpartition(".")
    return value


class _NumberType:
    """Stands for numpy.dtype: what numpy writes before a number."""

    def __init__(self, code: str, *_: object) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _Array:
    """Stands for numpy.ndarray: inert; of an array in `meta` only the shape is kept."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.shape = state[1]


def _number(kind: _NumberType, data: bytes) -> int | float | bool:
    """Stands for numpy's scalar()."""
    import numpy as np

    if not NUMERIC.fullmatch(kind.code):
        raise ValueError(f"no number: {kind.code}")
    number: int | float | bool = np.frombuffer(data, dtype=np.dtype(f"{kind.order}{kind.code}"), count=1)[0].item()
    return number


def _numpy() -> dict[str, Any]:
    """Stand-ins for what numpy 1 and 2 write of their numbers and arrays, by name."""
    found: dict[str, Any] = {"numpy.dtype": _NumberType, "numpy.ndarray": _Array}
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        found[f"{module}.scalar"] = lambda kind, data: _number(kind, data)
        found[f"{module}._reconstruct"] = lambda *arguments: _Array()
    return {name: _named(name, value) for name, value in found.items()}
