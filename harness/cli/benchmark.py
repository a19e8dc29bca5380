"""benchmark: training memory and frames a second, measured by themselves."""

import sys
from typing import Annotated, Any

import typer

from harness.cli.output import Json, print_json, print_note, print_table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(benchmark)


def benchmark(
    targets: Annotated[
        list[str], typer.Argument(metavar="RUN|CHECKPOINT|CELL...", help="Run folders, checkpoints (.pth), or cells.")
    ],
    json: Json = False,
) -> None:
    """Measure training memory and frames a second by the published protocol, on one device of this machine."""
    from harness.errors import UserError
    from harness.launching.benchmark import find_target, measure_target
    from harness.settings import load_settings
    from harness.tracking.shipment import ship

    settings = load_settings()
    found = [find_target(target, settings) for target in targets]  # all mistakes before the first measurement
    results = []
    for target in found:
        print(f"{target.spec.name}: measuring", file=sys.stderr, flush=True)
        results.append(measure_target(target))
        if target.paths is not None:
            try:
                ship(target.paths, settings.tracking_uri)
            except UserError as error:
                print_note(f"{error}; benchmark.json is in {target.paths.folder}; later: harness sync")
    if json:
        print_json(results)
    else:
        _show(results)


def _show(results: list[dict[str, Any]]) -> None:
    rows = [
        (
            result["name"],
            result["precision"],
            f"{result['memory_mb'] / 1024:.1f} ({result['memory_kind']}, {result['memory_images']} images)",
            f"{result['fps']:.1f}",
            f"{1000 * result['median_s']:.0f} / {1000 * result['p90_s']:.0f}",
            result["fps_images"],
            "trained" if result["weights"] else "untrained",
        )
        for result in results
    ]
    print_table(("cell", "precision", "Mem (GB)", "fps", "median / p90 (ms)", "images", "weights"), rows)
    first = results[0]
    print(f"\nbatch 1, the first 5 images left out; {first['hardware']['device']}")
    tf32 = first["tf32"]
    print(f"TF32: matmul {tf32['matmul']}, cuDNN {tf32['cudnn']}; cudnn.benchmark {first['cudnn_benchmark']}")
    if first["hardware"]["kind"] == "cpu":
        print("on a CPU: no number for the published tables; Mem is the peak of the process")
