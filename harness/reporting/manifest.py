"""The manifest: for every finished run of a row, what files it left and by which sha256 to know them."""

import json
from collections.abc import Iterable
from dataclasses import asdict

from harness.reporting.rows import Row

SCHEMA = 1


def manifest_json(experiment: str, rows: Iterable[Row], run_root: str | None) -> str:
    """manifest.json; the files' paths are relative to `run_root`, which is relative to the manifest's folder."""
    entries = [
        {
            "name": record.name,
            "seed": record.seed,
            "full": record.full,
            "run_id": record.run_id,
            "key": record.key,
            "identity": record.identity,
            "commit": record.commit,
            "files": {role: asdict(file) for role, file in sorted(record.files.items())},
        }
        for row in rows
        for record in row.finished
    ]
    plain = {"schema": SCHEMA, "experiment": experiment, "run_root": run_root, "rows": entries}
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"
