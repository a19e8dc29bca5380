"""The model card of a full result; what a card says of others is in test_publish."""

from pathlib import Path

from tracking import folders

from harness.files import read_json
from harness.launching.model_card import card
from harness.launching.publish import shown_name
from harness.shortening import Shortening


def test_the_name_and_card_of_a_full_result(tmp_path: Path) -> None:
    """R-50 caffe 1x was published with 38.0 / 34.4; this run has 20.0 / 10.0."""
    spec = folders.spec(shortening=Shortening())
    assert shown_name(spec) == spec.cell
    assert shown_name(folders.spec(precision="bf16")) == f"{spec.cell}+shortened+bf16"
    paths = folders.finished(tmp_path, spec)
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"abc")
    names = [f"{kind}_{name}" for kind in ("bbox", "segm") for name in ("mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")]
    result = read_json(paths.result)
    result |= {"metrics": dict.fromkeys(names) | {"bbox_mAP": 0.2, "segm_mAP": 0.1}, "fps": 16.06}
    text = card(spec, result, weights)
    assert "Not a full result" not in text
    assert "| AP | 20.0 | 10.0 |" in text and "| AP, published | 38.0 | 34.4 |" in text
    assert "abc, commit c0ffee" in text
    assert "style caffe, fp16 false" in text and "16.1 images a second" in text
    assert "`weights.pth`: 3 bytes, sha256 `ba7816bf" in text
