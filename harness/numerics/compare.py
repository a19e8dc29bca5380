"""What differs from what was expected, and by how much, in a line each."""

from typing import Any

import torch
from torch import Tensor


def differs(what: str, found: Any, expected: Any) -> list[str]:
    """A line where two plain values are not equal."""
    return [] if found == expected else [f"{what} is {found}, expected {expected}"]


def differs_by_name(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """A line for each name that is missing, unexpected or has another value; of many only the first."""
    lines = [f"{name} is missing" for name in expected if name not in found]
    lines += [f"{name} is not expected" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        lines += differs(name, found[name], expected[name])
    return few(sorted(lines))


def far(what: str, found: Tensor, expected: Tensor, *, tolerance: float = 0.0) -> list[str]:
    """A line where shapes differ or an element is off by more than `tolerance` (or is NaN)."""
    if found.shape != expected.shape:
        return differs(f"{what}: shape", tuple(found.shape), tuple(expected.shape))
    distance = (found.double() - expected.double()).abs()
    wrong = ~(distance <= tolerance)
    if not wrong.any():
        return []
    worst = distance.nan_to_num(nan=torch.inf).flatten().argmax()
    values = f"{found.flatten()[worst].item():.6g}, expected {expected.flatten()[worst].item():.6g}"
    return [
        f"{what}: {int(wrong.sum())} of {wrong.numel()} differ, by up to {distance.flatten()[worst].item():.3g} "
        f"({values}; allowed {tolerance:.3g})"
    ]


def few(lines: list[str], limit: int = 4) -> list[str]:
    """The first lines, and how many more there are."""
    return lines if len(lines) <= limit else [*lines[:limit], f"and {len(lines) - limit} more"]
