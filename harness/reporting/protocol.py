"""How the numbers of a page were measured, in words, from the rows it shows."""

from collections import Counter
from collections.abc import Iterable, Sequence

from harness.intervals import LEVEL, MEASURED, PRIOR, over_seeds
from harness.reporting.records import Record
from harness.reporting.rows import Row

TESTED = (
    'In the columns "published" stands what the published tables say, in "tested" what their file gave here, and under '
    '"difference" tested minus published. Published numbers are of the 5,000 images of COCO 2017 val.'
)
BESIDE = (
    'Under "Measured and published", the difference is measured minus published; published memory and speed are of '
    "V100 GPUs, and a difference of other GPUs is one of hardware, too. Published AP is of the 5,000 images of COCO "
    "2017 val."
)
MEMORY = "Mem (GB) is the peak that training allocated on one device, on a CPU the peak of the process. "
SPEED = "Inf time (fps) is images a second at batch 1, from the prepared image to its masks. "
HOURS = "GPU-hours are the GPUs of a run times the time that its attempts had them, at work or not."
DEVICES = "Columns that name no device are of V100 GPUs, as the published ones; others say on what."


def protocol(rows: Sequence[Row], *, tested: bool = False, beside: bool = False) -> list[str]:
    """Plain texts: metric and protocol, data, hardware, code and versions.

    tested: the rows are of published checkpoints that were tested here, not trained. beside: a table sets published
    numbers beside them.
    """
    runs = [run for row in rows for run in row.finished]
    items = [
        *([TESTED] if tested else []),
        *([BESIDE] if beside else []),
        _precision(runs),
        f"Test protocol: {_settings(rows)}.",
        (SPEED if tested else MEMORY + SPEED) + DEVICES,
        '"-" means not measured.' + ("" if tested else f" {_seeds(rows)}"),
    ]
    if any(run.gpu_hours for run in runs):
        items.append(HOURS)
    if runs:
        items += [f"{name}: {text}." for name, text in _facts(runs) if text]
    return items


def _seeds(rows: Sequence[Row]) -> str:
    """What a number says of its cell, however often that was trained."""
    assumed = f"a standard deviation of {PRIOR} AP is assumed where fewer than {MEASURED} seeds tell it"
    if any(len(row.runs) > 1 for row in rows):
        return (
            "Of several seeds the tables show the mean, ± the sample standard deviation, in brackets the "
            f"{LEVEL:.0%} interval of the mean over all seeds (Student's t; {assumed}), and how many finished runs "
            "they are; links lead to the first."
        )
    low, high = over_seeds([0.0]).bounds or (0.0, 0.0)
    return (
        f"Every AP is of one seed; the mean over all seeds lies within {(high - low) / 2:.1f} of it ({LEVEL:.0%}; "
        f"{assumed})."
    )


def _precision(runs: Sequence[Record]) -> str:
    text = "box AP and mask AP are COCO AP at IoU 0.50:0.95, in percent, of the last epoch"
    library = _distinct(run.evaluation_library for run in runs)
    return f"{text}, computed by {library}." if library else f"{text}."


def _settings(rows: Sequence[Row]) -> str:
    recipes = [row.planned.executed for row in rows]
    scales = _distinct(f"{recipe.test_scale[0]} x {recipe.test_scale[1]}" for recipe in recipes)
    return (
        f"one scale (long side x short side, pixels: {scales}), no flip, at most "
        f"{_distinct(recipe.test_detections for recipe in recipes)} detections an image with a score above "
        f"{_distinct(recipe.test_score for recipe in recipes)}, NMS at IoU "
        f"{_distinct(recipe.test_nms_iou for recipe in recipes)}"
    )


def _facts(runs: Sequence[Record]) -> list[tuple[str, str]]:
    hardware = [f"{run.hardware.count} x {run.hardware.device}" for run in runs if run.hardware]
    annotations = [
        ", ".join(f"{split} {digest[:16]}" for split, digest in sorted(run.annotations.items())) for run in runs
    ]
    commits = [run.commit[:10] + (" with changes" if run.dirty else "") for run in runs]
    names = sorted({name for run in runs for name in run.versions})
    versions = [f"{name} {_distinct(run.versions.get(name, '') for run in runs)}" for name in names]
    return [
        ("Data", _distinct(str(run.recipe.get("dataset", "")) for run in runs)),
        ("Annotations (start of the sha256)", _distinct(annotations)),
        ("Hardware", _distinct(hardware)),
        ("Wall time in which no training step was done", _range([run.overhead for run in runs])),
        ("Images timed for fps", _distinct(run.fps_images for run in runs if run.fps is not None)),
        ("Versions", ", ".join(versions)),
        ("Code at commit", _distinct(commits)),
    ]


def _range(shares: Iterable[float | None]) -> str:
    """Such as "2.1 % to 4.5 % of it"."""
    known = sorted(share for share in shares if share is not None)
    ends = dict.fromkeys(f"{100 * share:.1f} %" for share in (known[:1] + known[-1:]))
    return f"{' to '.join(ends)} of it" if ends else ""


def _distinct(values: Iterable[object]) -> str:
    """The distinct values, sorted; where there are several, each with how often it occurs."""
    counts = Counter(str(value) for value in values if value not in (None, ""))
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{text} ({count} of {counts.total()})" for text, count in sorted(counts.items()))
