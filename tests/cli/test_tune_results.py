"""What came out of a study, on the command line."""

from pathlib import Path

from tuning.folders import place as write_study
from tuning.folders import trial

from cli.conftest import Harness


def test_the_best_as_a_matrix_file_and_the_report(harness: Harness, place: Path, shapes: Path) -> None:
    study, settings = write_study(place, shapes)
    assert harness("tune", "small.yaml", "--best", "best.yaml")[0] == 2
    trial(study, settings, 0, (0.30,))
    trial(study, settings, 1, (0.35,), lr=0.002)
    code, out, _ = harness("tune", "small.yaml", "--best", "best.yaml")
    assert code == 0 and out == "best.yaml: trial 1, segm AP 35.0\nnow run: harness plan best.yaml\n"
    code, _, err = harness("tune", "small.yaml", "--best", "best.yaml", "--trial", "0")
    assert code == 2 and "best.yaml: there already, with other content; nothing is written" in err
    code, out, _ = harness("plan", "best.yaml")
    assert code == 0 and "mask_rcnn_r18_fpn_1x_coco+tiny+trial001" in out
    code, out, _ = harness("tune", "small.yaml", "--report")
    assert code == 0 and out == "report: reports/small/README.md\n"
    code, _, err = harness("tune", "small.yaml", "--trial", "0")
    assert code == 2 and "--trial goes with --best" in err
