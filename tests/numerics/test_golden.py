"""The shipped numbers are the reference's, and the second implementation deserves its name."""

import lzma
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle.conftest import oracle, reference_weights  # noqa: F401 (fixtures)
from torch import Tensor

from harness.numerics import formula
from harness.numerics.expected import FOLDER, expected, golden, keys, recipe_of
from harness.numerics.model import TOLERANCE
from harness.recipe import field_names
from numerics import make_golden, reference


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.slow
def test_blocks_and_keys_are_the_oracles(shared: Path) -> None:
    blocks = make_golden.golden(shared / "reference/oracle")
    assert same(blocks, {name: golden()[name] for name in blocks})
    assert golden().keys() - blocks.keys() == {"outputs", "forward"}
    assert make_golden.all_keys(shared / "reference/oracle") == keys()


def test_what_is_shipped_is_small() -> None:
    assert sum((FOLDER / name).stat().st_size for name in ("golden.pth", "keys.json.xz", "expected.json")) < 220_000


def test_the_shapes_have_the_published_numbers_of_parameters() -> None:
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    for name, shapes in keys().items():
        count = sum(int(np.prod(shape)) for key, shape in shapes.items() if not key.endswith(buffers))
        assert count == expected()["parameters"][name], name


def test_every_recipe_field_has_an_expected_value_in_every_row() -> None:
    for row in expected()["rows"]:
        assert set(recipe_of(row)) == set(field_names()) - {"dataset"}


def test_the_rows_are_those_of_the_published_table(shared: Path) -> None:
    """Column by column of the table in the reference's text."""
    text = (shared / "reference/recipes.md").read_text()
    table = re.findall(r"(?m)^\| (\w+fpn\S*) \| mask-rcnn\S+(?: \(.*?\))? \| (.*) \|$", text)
    assert len(table) == 21
    for name, columns in table:
        cells = [cell.strip().replace("**", "") for cell in columns.split(" | ")]
        backbone, style, pretrained, affine, norm, resize, mask, passes, steps = cells[:9]
        row = expected()["rows"][f"mask_rcnn_{name}_coco"]
        recipe = recipe_of(f"mask_rcnn_{name}_coco")
        assert recipe["depth"] == int(re.search(r"\d+", backbone)[0])  # type: ignore[index]
        assert recipe["style"] == style.split()[0]
        assert recipe["pretrained"].split("//")[1] in (pretrained.split("//")[-1], f"detectron2/{pretrained}")
        assert recipe["bn_affine_trained"] == (affine == "yes")
        assert (row["input"], row["resize"], recipe["mask_format"][0].upper()) == (norm, resize, mask)
        epochs, repeats = re.match(r"(\d+)x(\d+)", passes).groups()  # type: ignore[union-attr]
        assert (recipe["epochs"], recipe["repeats"]) == (int(epochs), int(repeats))
        assert recipe["lr_steps"] == [int(step) for step in re.findall(r"\d+", steps)[:2]]
        assert recipe["precision"] == ("fp16" if "fp16" in name else "fp32")


def test_formula_by_hand() -> None:
    """Element 0 has no bits; element 1 is the sum of both factors, element 2 four times one and twice the other."""
    a, b = 6364136223846793005, 1442695040888963407
    by_hand = [((i * i * a + i * b) % 2**64 >> 40) / 2**23 - 1 for i in (0, 1, 2, 5_000_000)]
    assert formula.table()[[0, 1, 2, 5_000_000]].tolist() == by_hand
    assert by_hand[0] == -1
    assert abs(float(formula.table().mean())) < 1e-3
    assert float(formula.table().std()) == pytest.approx(3**-0.5, rel=1e-3)  # uniform between -1 and 1


def test_fingerprint_by_hand() -> None:
    found = formula.fingerprint(torch.arange(32.0).view(4, 8))
    assert found[0] == 15.5
    assert found[1] ** 2 == pytest.approx(32 * 33 / 12)  # of 0 .. n-1, n (n + 1) / 12 over n - 1
    assert found[2:].tolist() == list(range(0, 32, 2))


@pytest.mark.slow
def test_the_second_implementation_gives_the_oracles_numbers(
    shared: Path,
    oracle: Callable[[str], Any],  # noqa: F811
    reference_weights: dict[str, Tensor],  # noqa: F811
) -> None:
    """float64 here, float32 there: on another kind of CPU that moves the oracle by as much."""
    case = oracle("r50_fpn/test")
    net = reference.backbone(reference_weights, depth=50, style="pytorch", groups=1, width=64)
    with torch.inference_mode():
        levels = reference.pyramid(reference_weights, reference.stages(net, case["inputs"].double()))
        found = reference.outputs(reference_weights, levels, case["proposals"][:8])
        masks = reference.outputs(reference_weights, levels, case["det_bboxes_resized"][:4])["mask"]
    for number, (logits, deltas) in enumerate(zip(case["rpn_cls"], case["rpn_reg"], strict=True), start=2):
        close(found[f"rpn_cls {number}"], logits)
        close(found[f"rpn_reg {number}"], deltas)
    close(found["fc_cls"], case["cls_score"][:8])
    close(found["fc_reg"], case["bbox_pred"][:8])
    own = masks[torch.arange(4), case["det_labels"][:4]]
    close(own, case["mask_logits"][:4].view_as(own))


def close(found: Tensor, wanted: Tensor) -> None:
    """Within what the shipped check allows."""
    torch.testing.assert_close(found.float(), wanted, rtol=0, atol=TOLERANCE * float(wanted.std()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r50 caffe", "r50 pytorch"])
def test_the_shipped_fingerprints_are_the_second_implementations(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(make_golden, "ARCHITECTURES", {name: make_golden.ARCHITECTURES[name]})
    made = make_golden.forwards(keys())
    assert made["outputs"] == golden()["outputs"]
    torch.testing.assert_close(made["forward"][name], golden()["forward"][name], rtol=1e-9, atol=1e-9)


def test_keys_are_readable_without_this_package() -> None:
    assert lzma.decompress((FOLDER / "keys.json.xz").read_bytes()).startswith(b'{"r101": {"backbone.bn1.bias": [64]')
