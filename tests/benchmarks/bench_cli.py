"""How soon `harness --help` answers: python tests/benchmarks/bench_cli.py [TIMES] (default 10).

Medians of process and wall time, beside a bare interpreter and the commands' own import, alternately, and what is
imported. .pyc files count: where they cannot be written (PYTHONDONTWRITEBYTECODE), modules are compiled each time.
"""

import os
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "harness --help": [sys.executable, "-m", "harness", "--help"],
    "harness plan --help": [sys.executable, "-m", "harness", "plan", "--help"],
    "harness show CELL": [sys.executable, "-m", "harness", "show", "mask_rcnn_r50_fpn_1x_coco"],
}


TARGET = 0.2
"""Seconds of wall time."""


def main() -> None:
    """Run each command so many times, alternately; print medians."""
    times = int(sys.argv[1]) if sys.argv[1:] else 10
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for number in range(times + 1):  # the first one warms the disk's cache
        for name, command in COMMANDS.items():
            measured = measure(command)
            found[name] += [measured] if number else []
    print(f"medians of {times}, least and most in brackets")
    for name, runs in found.items():
        process, wall = zip(*runs, strict=True)
        print(f"{name:<20}  process time {shown(process)}  wall time {shown(wall)}")
    wall = statistics.median(wall for _, wall in found["harness --help"])
    print(f"harness --help: target under {TARGET} s: {wall:.2f} s, {'kept' if wall < TARGET else 'MISSED'}")
    print(f"modules that harness --help imports: {modules(COMMANDS['harness --help'])}")


def measure(command: list[str]) -> tuple[float, float]:
    """Process time (user and system) and wall time of a command, in seconds."""
    before, began = os.times(), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after, wall = os.times(), time.perf_counter() - began
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    return spent, wall


def shown(seconds: tuple[float, ...]) -> str:
    """Such as 0.06 s [0.05, 0.08]."""
    return f"{statistics.median(seconds):.2f} s [{min(seconds):.2f}, {max(seconds):.2f}]"


def modules(command: list[str]) -> int:
    """How many modules a command imports."""
    told = subprocess.run([command[0], "-X", "importtime", *command[1:]], capture_output=True, text=True, check=True)
    return told.stderr.count("import time:") - 1


if __name__ == "__main__":
    main()
