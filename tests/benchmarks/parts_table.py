"""The page of bench_parts.py: what was measured on what, in tables, and what each step gained."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.reporting.benchmark_table import states

ON_A_CPU = "**CPU: shows that the code runs, no speed of a GPU.**"
STEPS = (
    ("baseline: fp32, reference kernels, eager", {"precision": "fp32", "kernels": "reference", "mode": "eager"}),
    ("+ half precision", {"precision": "HALF", "kernels": "reference", "mode": "eager"}),
    ("+ fast kernels", {"precision": "HALF", "kernels": "fast", "mode": "eager"}),
    ("+ torch.compile", {"precision": "HALF", "kernels": "fast", "mode": "compiled"}),
)
"""HALF: fp16 where it was measured, else bf16."""

Row = Mapping[str, Any]


def page(content: Mapping[str, Any]) -> str:
    """The page that the JSON gives."""
    rows = content["rows"]
    trained = [row for row in rows if row["batch"]]
    tested = [row for row in rows if not row["batch"]]
    return "\n".join(
        [
            *_protocol(
                content["protocol"],
                [row["state"] | {"hardware": content["protocol"]["hardware"]} for row in rows if "state" in row],
            ),
            *_section("Training", trained),
            *_section("Inference, an image at a time", tested),
            *_gains(trained),
            "",
        ]
    )


def _protocol(said: Mapping[str, Any], known: Sequence[Row]) -> Iterator[str]:
    hardware, boxes, (height, width) = said["hardware"], said["boxes"], said["size"]
    yield f"# Training and inference by part on {hardware['device']}\n"
    if hardware["kind"] == "cpu":
        yield f"{ON_A_CPU} Threads: {hardware['threads']}.\n"
    versions = ", ".join(f"{name} {number}" for name, number in sorted(said["versions"].items()))
    changed = " with changes" if said["code"]["dirty"] else ""
    commit = (said["code"]["commit"] or "unknown")[:10]
    yield f"- {versions}; code {said['code']['digest']}, at commit {commit}{changed}."
    yield from (f"- {text}" for text in (states(known) if known else ()))
    second = f"{boxes['regions']} boxes an image, {boxes['positives']} of them positive"
    found = f"{boxes['candidates']}, of which {boxes['detections']} are found"
    yield (
        f"- Given images of {height // said['shrink']} x {width // said['shrink']}, padded to multiples of 32, each "
        f"with {boxes['objects']} objects (bitmaps). The second stage is given {second}; in inference {found}."
    )
    yield "- A training step is the whole iteration: copy to the device, forward, backward, optimiser."
    yield (
        f"- Median [least .. most] of {said['rounds']} rounds of {said['steps']}, after {said['warmup']} of warm-up; "
        "nothing is waited for within a round. MiB: the most that torch allocated on a GPU; on a CPU the peak of the "
        "process. Waits: of the host for the device, in one step."
    )
    yield (
        "- Parts are timed by themselves afterwards, one synchronised run each, medians. The times are of the device: "
        "its waiting for the host is in them."
    )
    yield "- Compiled are backbone, neck and RPN head, by torch.compile. Every row has a process of its own.\n"


def _section(title: str, rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    yield f"## {title}\n"
    heads = ("cell", "precision", "kernels", "mode", "batch", "images/s", "ms", "MiB", "waits")
    yield from _table(heads, [_summary(row) for row in rows])
    done = [row for row in rows if "fault" not in row]
    if done:
        parts = list(done[0]["parts"])
        yield "\nMilliseconds by part:\n"
        heads = ("cell", "precision", "kernels", "mode", "batch", *parts)
        yield from _table(heads, [[*_name(row), *(f"{row['parts'][part]:.1f}" for part in parts)] for row in done])
    yield ""


def _summary(row: Row) -> list[str]:
    if "fault" in row:
        return [*_name(row), row["fault"].replace("|", "&#124;"), "-", "-", "-"]
    ms = row["ms"]
    spread = f"{statistics.median(ms):.1f} [{ms[0]:.1f} .. {ms[-1]:.1f}]"
    waits = row.get("waits")
    return [*_name(row), f"{speed(row):.2f}", spread, f"{row['memory_mb']:.0f}", "-" if waits is None else str(waits)]


def _name(row: Row) -> list[str]:
    kind = row["kind"]
    cell = kind["cell"].removeprefix("mask_rcnn_").removesuffix("_fpn_1x_coco")
    return [cell, kind["precision"], kind["kernels"], kind["mode"], str(row["batch"] or 1)]


def speed(row: Row) -> float:
    """Images a second, by the median."""
    return 1000 * (row["batch"] or 1) / statistics.median(row["ms"])


def _gains(rows: Sequence[Row]) -> Iterator[str]:
    """For each cell: the steps at the smallest batch, then the best larger batch."""
    done = [row for row in rows if "fault" not in row]
    cells = list(dict.fromkeys(row["kind"]["cell"] for row in done))
    yield "## What each step gains in training\n"
    lines = [line for cell in cells for line in _steps([row for row in done if row["kind"]["cell"] == cell])]
    yield from _table(
        ("cell", "step", "precision", "batch", "images/s", "of the step before", "of the baseline"), lines
    )


def _steps(rows: Sequence[Row]) -> Iterator[list[str]]:
    half = "fp16" if any(row["kind"]["precision"] == "fp16" for row in rows) else "bf16"
    smallest = min(row["batch"] for row in rows)
    before = first = None
    last: Row | None = None
    for step, wanted in STEPS:
        wanted = {name: value.replace("HALF", half) for name, value in wanted.items()}
        last = next((row for row in rows if row["batch"] == smallest and _is(row, wanted)), None)
        if last is not None:
            first = first or speed(last)
            yield _gain(step, last, before, first)
            before = speed(last)
    larger = [row for row in rows if last and row["kind"] == last["kind"] and row["batch"] > smallest]
    if larger and first:
        yield _gain("+ the best batch", max(larger, key=speed), before, first)


def _is(row: Row, wanted: Mapping[str, str]) -> bool:
    return all(row["kind"][name] == value for name, value in wanted.items())


def _gain(step: str, row: Row, before: float | None, first: float) -> list[str]:
    name, precision, *_, batch = _name(row)
    now = speed(row)
    return [name, step, precision, batch, f"{now:.2f}", f"{now / before:.2f}" if before else "-", f"{now / first:.2f}"]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
