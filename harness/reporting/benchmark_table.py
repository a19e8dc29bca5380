"""A table of training memory and speed that `harness benchmark` measured on one device, beside the published ones."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.files import write_json, write_text
from harness.published import PublishedRow, published_rows
from harness.reporting.markdown import escape, table
from harness.reporting.measures import ABSENT, PUBLISHED_DEVICE
from harness.run_spec import RunSpec

COLUMNS = (
    "Cell",
    "Precision",
    "Mem (GB)",
    f"published ({PUBLISHED_DEVICE})",
    "Inf time (fps)",
    f"published ({PUBLISHED_DEVICE})",
    "median / p90 (ms)",
    "images",
    "detections an image",
    "weights",
    "SM clock (MHz)",
)
MEMORY = (
    "Mem (GB) is the peak that torch allocates (`torch.cuda.max_memory_allocated`) while the cell is trained on its "
    "micro-batches, the share of one GPU in a published run. With several GPUs the gradients stay during the forward "
    "pass, too, and so may add up to their size."
)
PROTOCOL = (
    "Inf time (fps) is 1 / the mean time of an image at batch 1, from the prepared image to its masks as RLE, over "
    "up to 2000 validation images, the first 5 left out, the device synchronised around each.",
    "Weights are the start of the sha256 of the checkpoint whose detections were timed. Untrained ones find few "
    "objects or none, so that few masks are pasted: their fps flatters.",
)
ON_A_CPU = (
    "**Measured on a CPU: not comparable with the published numbers, nor with those of any GPU.** It shows that the "
    "code runs. Mem (GB) is here the peak of the process, imports included."
)
BUSY = 0.1  # more of the device at work for others than this slows what is measured


def entry(spec: RunSpec, found: Mapping[str, Any] | None, fault: str) -> dict[str, Any]:
    """What the table keeps of a cell: benchmark.json without the host's name, or why there is none."""
    kept = None
    if found is not None:
        kept = {**found, "hardware": {name: value for name, value in found["hardware"].items() if name != "host"}}
    as_published = spec.published and not spec.suffix and not spec.shortening
    shortened = spec.shortening.describe()
    return {"name": spec.name, "as_published": as_published, "shortened": shortened, "found": kept, "fault": fault}


def write_table(folder: Path, stem: str, experiment: str, entries: Sequence[Mapping[str, Any]]) -> Path:
    """Write STEM.json, and STEM.md from it; the path of the latter."""
    content = {"experiment": experiment, "entries": list(entries)}
    write_json(folder / f"{stem}.json", content)
    write_text(folder / f"{stem}.md", page(content))
    return folder / f"{stem}.md"


def page(content: Mapping[str, Any]) -> str:
    """The page that the content of a STEM.json gives; at least one entry was measured."""
    entries = content["entries"]
    found = [entry["found"] for entry in entries if entry["found"]]
    device, kind = found[0]["hardware"]["device"], found[0]["hardware"]["kind"]
    shortened = sorted(
        {f"Shortened ({e['shortened']}): not the recipes as they are." for e in entries if e["shortened"]}
    )
    rows = [[escape(cell) for cell in _row(entry)] for entry in entries]
    protocol = PROTOCOL if kind == "cpu" else (MEMORY, *PROTOCOL)
    faults = [f"- {escape(e['name'])}: {escape(e['fault'])}" for e in entries if e["fault"]]
    return "\n".join(
        [
            f"# Training memory and speed of {escape(content['experiment'])} on {escape(device)}",
            "",
            *([ON_A_CPU, ""] if kind == "cpu" else []),
            *[line for text in shortened for line in (f"**{escape(text)}**", "")],
            *table(COLUMNS, rows),
            "",
            *(["Not measured:", "", *faults, ""] if faults else []),
            *[f"- {text}" for text in (*protocol, *states(found), *_origins(found))],
            "",
        ]
    )


def states(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """What was measured beside others' work; of GPUs arithmetic, driver and power. All of one device."""
    found = list(found)
    crowd = _crowd(found)
    if found[0]["hardware"]["kind"] == "cpu":
        return crowd
    gpus = [one["gpu"] for one in found if one.get("gpu")]
    cudnn = _distinct(one["cudnn"] for one in found if one.get("cudnn"))
    arithmetic = _distinct(
        f"TF32 in matrix products {_on(one['tf32']['matmul'])}, in cuDNN {_on(one['tf32']['cudnn'])}; "
        f"cudnn.benchmark {_on(one['cudnn_benchmark'])}"
        for one in found
    )
    power = _distinct(
        f"driver {gpu['driver']}, power limit {gpu['power_limit_w']} W, SM clock at most {gpu['max_sm_mhz']} MHz, "
        f"memory clock {gpu['memory_mhz']} MHz"
        for gpu in gpus
    )
    clocks = (
        f"{power}; the SM clock of each row was read right after its work" if gpus else "Clocks and power: not read"
    )
    return [*crowd, f"{arithmetic}{f'; cuDNN {cudnn}' if cudnn else ''}.", f"{clocks}."]


def _crowd(found: Iterable[Mapping[str, Any]]) -> list[str]:
    beside = [f"{one['name']} ({one['others']:.0%})" for one in found if (one.get("others") or 0) > BUSY]
    busy = "Others were at work on the device when the measuring began, so these are too slow"
    return [f"{busy}: {', '.join(beside)}."] if beside else []


def _origins(found: Sequence[Mapping[str, Any]]) -> list[str]:
    names = sorted({name for one in found for name in one["versions"]})
    versions = ", ".join(f"{name} {_distinct(one['versions'].get(name, '') for one in found)}" for name in names)
    threads = _distinct(one["hardware"]["threads"] for one in found if "threads" in one["hardware"])
    codes = [one.get("code") or {} for one in found]
    commits = _distinct(
        (code.get("commit") or "unknown")[:10] + (" with changes" if code.get("dirty") else "") for code in codes
    )
    return [f"{f'{threads} threads. ' if threads else ''}Versions: {versions}. Code at commit {commits}."]


def _row(entry: Mapping[str, Any]) -> list[str]:
    row = published_rows()[entry["name"]] if entry["as_published"] else None
    found = entry["found"]
    if found is None:
        return [entry["name"], "not measured", ABSENT, _mem(row), ABSENT, _fps(row), *[ABSENT] * 5]
    return [
        entry["name"],
        found["precision"],
        f"{found['memory_mb'] / 1024:.1f}",
        _mem(row),
        f"{found['fps']:.1f}",
        _fps(row),
        f"{1000 * found['median_s']:.0f} / {1000 * found['p90_s']:.0f}",
        str(found["fps_images"]),
        f"{found['detections']:.1f}",
        found["weights"][:8] if found["weights"] else "untrained",
        found["gpu"]["sm_mhz"] if found["gpu"] else ABSENT,
    ]


def _mem(row: PublishedRow | None) -> str:
    return ABSENT if row is None or row.mem_gb is None else f"{row.mem_gb:.1f}"


def _fps(row: PublishedRow | None) -> str:
    return ABSENT if row is None or row.fps is None else f"{row.fps:.1f}"


def _on(value: bool) -> str:
    return "on" if value else "off"


def _distinct(values: Iterable[object]) -> str:
    return " or ".join(sorted({str(value) for value in values}))
