"""The comparison and the gate from the command line, on numbers that a committed report holds."""

import json
from collections.abc import Callable
from pathlib import Path

from conftest import ROOT

Harness = Callable[..., tuple[int, str, str]]
RECORDS = ROOT / "reports" / "demo" / "records.json"


def changed(path: Path, by: float) -> Path:
    """The committed records with every AP changed by so many percent."""
    plain = json.loads(RECORDS.read_text())
    for record in plain["records"]:
        for name in ("bbox_mAP", "segm_mAP"):
            record["metrics"][name] += by / 100
    path.write_text(json.dumps(plain))
    return path


def test_records_against_themselves_pass(harness: Harness) -> None:
    code, out, _ = harness("compare", str(RECORDS), "--against", str(RECORDS), "--fail-on-drop")
    assert code == 0 and "DROPPED" not in out and "false alarms in" in out and "missed at 0.3 AP" in out


def test_a_drop_fails_and_a_rise_warns(harness: Harness, place: Path) -> None:
    code, out, _ = harness("compare", str(changed(place / "r.json", -2)), "--against", str(RECORDS), "--fail-on-drop")
    assert code == 1 and out.count("DROPPED") == 8
    code, out, _ = harness("compare", str(changed(place / "r.json", 2)), "--against", str(RECORDS), "--fail-on-drop")
    assert code == 0 and out.count("warning: mask_rcnn") == 8
    code, out, _ = harness("compare", str(place / "r.json"), "--against", str(RECORDS), "--json")
    assert len(json.loads(out)["verdicts"]) == 8


def test_mistakes_are_lines(harness: Harness) -> None:
    code, _, err = harness("compare", str(RECORDS), "--against", "published")
    assert code == 2 and "can be held against published" in err and "no published row" in err
    assert harness("compare", "one")[0] == 2
    assert harness("compare", "one", "two", "--fail-on-drop")[0] == 2
    code, _, err = harness("compare", "tiny.yaml", "two")
    assert code == 2 and "tiny.yaml: name one cell of it, or hold all of them --against published|RUNS" in err
    code, _, err = harness("compare", "one", "two")
    assert code == 2 and err.startswith("error: 'one': no file, no run's folder")
