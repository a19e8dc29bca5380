"""A user's mistakes: exit code 2, a line each on stderr, never a traceback."""

from pathlib import Path

import pytest

from cli.conftest import Harness

CELL = "mask_rcnn_r18_fpn_1x_coco"


@pytest.fixture(autouse=True)
def files(place: Path) -> None:
    """All sorts of wrong files."""
    (place / "folder").mkdir()
    (place / "text.pth").write_text("hello")
    (place / "text.json").write_text("hello")
    (place / "binary.yaml").write_bytes(bytes(range(256)))
    (place / "broken.yaml").write_text("axes: {backbone: [R-18\n")
    (place / "wrong.yaml").write_text("axes: {backbone: R-52, schedul: 1x}\nnonsense: 1\n")
    (place / "empty.yaml").write_text("")
    (place / "photo.jpg").write_text("no photo")
    (place / "toml").mkdir()


WORDS = [
    ("plan", "none.yaml"), ("plan", "folder"), ("plan", "broken.yaml"), ("plan", "wrong.yaml"), ("plan", "empty.yaml"),
    ("plan", "binary.yaml"), ("plan", "text.json"), ("plan", "nothing"),
    ("submit", "none.yaml"), ("submit", "folder"), ("submit", "zoo"), ("submit", "tiny.yaml", "--cluster", "moon"),
    ("status", "none.yaml"), ("status", "wrong.yaml"), ("fetch", "none.yaml"), ("sync", "none.yaml"),
    ("show", "mask_rcnn_r52_fpn_1x_coco"), ("show", CELL, "--diff", "x"), ("show", CELL, "--experiment", "none.yaml"),
    ("show", "mask_rcnn_r50_fpn_1x_coco", "--experiment", "tiny.yaml"),
    ("train", "mask_rcnn"), ("train", CELL), ("train", CELL, "--experiment", "folder"),
    ("train", CELL, "--experiment", "tiny.yaml", "--set", "lr"),
    ("train", CELL, "--experiment", "tiny.yaml", "--set", "lr=x"),
    ("train", CELL, "--experiment", "tiny.yaml", "--set", "dataset=moon"),
    ("train", CELL, "--experiment", "tiny.yaml", "--batch", "3"),
    ("evaluate", "none.pth"), ("evaluate", "folder"), ("evaluate", "text.pth"), ("evaluate", "text.json"),
    ("evaluate", "text.json", "--annotations", "none.json"),
    ("predict", "none.pth", "photo.jpg"), ("predict", "text.pth", "photo.jpg"), ("predict", "folder", "photo.jpg"),
    ("evaluate", "text.pth", "--cell", "mask_rcnn_r50_fpn_1x_coco"), ("evaluate", "none.pth", "--cell", "x"),
    ("publish", "folder"), ("publish", "none/run"), ("publish", CELL), ("publish", "mask_rcnn"),
    ("submit", "zoo", "--published-checkpoints"), ("submit", "tiny.yaml", "--published-checkpoints"),
    ("report", "zoo", "--published-checkpoints"), ("fetch", "tiny.yaml", "--published-checkpoints"),
    ("import", "none.json", "--cell", CELL), ("import", "text.json", "--cell", CELL),
    ("import", "text.json", "--cell", "x"), ("report", "tiny.yaml", "--source", "published"),
    ("report", "none.yaml"), ("report", "tiny.yaml", "--check", "--output", "folder"),
    ("data", "check", "nowhere"), ("data", "check", "folder"), ("data", "shapes", "folder/../tiny.yaml"),
]  # fmt: skip


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_mistake(harness: Harness, words: tuple[str, ...]) -> None:
    code, _, err = harness(*words)
    assert code == 2, err
    assert err.startswith("error: ") and err.endswith("\n")
    assert "Traceback" not in err
    assert all(line.strip() for line in err.splitlines())


@pytest.mark.parametrize(
    "words", [("plan",), ("nonsense",), ("train", CELL, "--seed", "-1"), ("plan", "tiny.yaml", "--nope"), ("show",)]
)
def test_usage(harness: Harness, words: tuple[str, ...]) -> None:
    code, _, err = harness(*words)
    assert code == 2
    assert "Usage: harness" in err and "Traceback" not in err
    assert err.splitlines()[-1].startswith("error: ") and "Error: " not in err


def test_all_mistakes_of_a_file_at_once(harness: Harness) -> None:
    _, _, err = harness("plan", "wrong.yaml")
    assert "wrong.yaml:1:18: " in err and "did you mean 'R-50'?" in err
    assert "wrong.yaml:2:1: " in err and "nonsense" in err


@pytest.mark.parametrize("text", ["run_root = [", "nonsense = 1", "threads = 0", "\0"])
def test_broken_settings(harness: Harness, place: Path, text: str) -> None:
    (place / "harness.toml").write_text(text)
    for words in (("doctor",), ("status", "tiny.yaml"), ("submit", "tiny.yaml")):
        code, _, err = harness(*words)
        assert code == 2 and err.startswith("error: ") and "harness.toml" in err, words


def test_settings_that_are_a_folder(harness: Harness, place: Path) -> None:
    (place / "harness.toml").unlink()
    (place / "harness.toml").mkdir()
    code, _, err = harness("status", "tiny.yaml")
    assert code == 2 and "harness.toml" in err and err.count("\n") == 1


def test_run_root_that_is_a_file(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_RUN_ROOT", "tiny.yaml")
    code, _, err = harness("submit", "tiny.yaml")
    assert code == 2 and err.count("\n") == 1 and "tiny.yaml" in err
