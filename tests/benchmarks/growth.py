"""How a time grows with a number: the lines that benchmarks of many runs end with."""

from collections.abc import Sequence
from itertools import pairwise


def show_growth(what: str, unit: str, taken: Sequence[tuple[int, float]], *, target: tuple[int, float]) -> None:
    """Print, for each number but the first, by how much the time grew, and whether the target is kept.

    taken: (number, seconds), ascending. target: at this number, or beyond it, at most so many seconds for so many.
    """
    print(f"\n{what}: {', '.join(f'{number} {unit} {seconds:.3g} s' for number, seconds in taken)}")
    for (fewer, short), (more, long) in pairwise(taken):
        print(f"  {more / fewer:.3g} times the {unit} ({fewer} to {more}): {long / short:.3g} times the time")
    number, limit = target
    found = [seconds for count, seconds in taken if count >= number]
    verdict = f"{found[0]:.3g} s, {'kept' if found[0] < limit else 'MISSED'}" if found else "not measured"
    print(f"  target: {number} {unit} under {limit:g} s: {verdict}", flush=True)
