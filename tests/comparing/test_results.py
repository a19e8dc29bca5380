"""What the gate is given: by name and kind, and published rows only for full results."""

from harness.comparing.results import Result, against_published, against_results


def result(
    name: str, box: float, mask: float, *, kind: str = "whole recipe, fp32", full: bool = True, seed: int = 0
) -> Result:
    return Result(name=name, seed=seed, kind=kind, full=full, numbers={"box AP": box, "mask AP": mask})


def test_full_results_stand_against_their_published_rows() -> None:
    """R-50 pytorch 1x is published with 38.2 and 34.7."""
    short = result("mask_rcnn_r101_fpn_1x_coco", 1.0, 1.0, kind="epochs=1, fp32", full=False)
    runs = [result("mask_rcnn_r50_fpn_1x_coco", 38.0, 34.5, seed=seed) for seed in (0, 1)]
    numbers, left_out = against_published([*runs, short, result("mask_rcnn_r18_fpn_1x_coco", 30.0, 28.0)])
    assert [(n.row, n.metric, n.now, n.before) for n in numbers] == [
        ("mask_rcnn_r50_fpn_1x_coco", "box AP", (38.0, 38.0), (38.2,)),
        ("mask_rcnn_r50_fpn_1x_coco", "mask AP", (34.5, 34.5), (34.7,)),
    ]
    assert left_out == [
        "mask_rcnn_r101_fpn_1x_coco: no full result (epochs=1, fp32)",
        "mask_rcnn_r18_fpn_1x_coco: no published row",
    ]


def test_runs_stand_against_runs_of_one_kind() -> None:
    now = [result("a", 10.0, 9.0, kind="epochs=1, fp32"), result("b", 10.0, 9.0)]
    before = [result("a", 11.0, 9.5, kind="epochs=1, fp32"), result("b", 10.0, 9.0, kind="whole recipe, bf16")]
    numbers, left_out = against_results(now, before)
    assert [(n.row, n.now, n.before) for n in numbers] == [("a", (10.0,), (11.0,)), ("a", (9.0,), (9.5,))]
    assert left_out == ["b (whole recipe, fp32): nothing of this cell and kind to hold it against"]
