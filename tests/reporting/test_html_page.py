"""index.html says what the README says, and no text in it becomes more than text."""

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from harness.matrix import Experiment, load_experiment
from harness.reporting.as_published import write_published_tables
from harness.reporting.check import check_report
from harness.reporting.html_page import LIMIT, href
from harness.reporting.page import write_report
from harness.reporting.records import EpochAP, FileRecord, Record
from reporting.conftest import Load, finished, unfinished

ZOO = Path(__file__).parents[2] / "experiments" / "zoo.yaml"
FULL = Path(__file__).parents[2] / "experiments" / "full.yaml"
TWO = "include: [{backbone: R-50, schedule: [1x, 2x]}]\n"
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
VOID = {"meta", "link", "input", "img", "br"}
OPTIONAL = {"tr", "th", "td", "thead", "tbody"}
"""Elements whose end HTML lets one leave out."""


class Reader(HTMLParser):
    """Tags with their attributes, the text of the elements, and whether what begins also ends."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID | OPTIONAL:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in OPTIONAL:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())

    def values(self, name: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(name)) is not None]


def read(path: Path) -> Reader:
    return Reader(path.read_text(encoding="utf-8"))


def test_it_shows_what_the_readme_shows(load: Load) -> None:
    experiment = load(TWO + "description: Two cells.\nshorten: {epochs: 2}\n")
    runs = [finished(experiment.cells[0], box=0.3804), unfinished(experiment.cells[1], "FAILED", reason="no memory")]
    paths = write_report(experiment, runs, Path("out"), server="https://tracking.example")
    page = read(paths.site)
    for text in (
        "Two cells.", "2 runs: 1 failed, 1 finished.", "38.0", "shortened, not a full result: epochs=2",
        "failed: no memory", "How the numbers were measured", "not a full result", "run-of-mask_rcnn_r50_fpn_1x_coco-0",
    ):  # fmt: skip
        assert text in page.texts, text
    assert "https://tracking.example/#/runs/run-of-mask_rcnn_r50_fpn_1x_coco-0" in page.values("href")
    assert "box AP 38.0, mask AP 34.0" in page.texts


def test_every_field_of_the_recipe_and_the_difference_to_a_neighbour(load: Load) -> None:
    experiment = load(TWO)
    page = write_report(experiment, list(map(finished, experiment.cells)), Path("out")).site.read_text(encoding="utf-8")
    first = page.split('<article id="cell-mask_rcnn_r50_fpn_1x_coco"')[1].split("</article>")[0]
    assert "<tr><th>lr<td>0.02\n" in first and "<tr><th>epochs<td>12\n" in first
    neighbour = first.split('<details class="neighbour"')[1].split("</details>")[0]
    assert "<summary>schedule: 2x" in neighbour
    assert re.findall("<tr><th>(.*)<td>(.*)<td>(.*)", neighbour) == [
        ("epochs", "12", "24"), ("lr_steps", "[8, 11]", "[16, 22]")
    ]  # fmt: skip


def test_links_inside_lead_somewhere(tmp_path: Path) -> None:
    page = read(write_published_tables(load_experiment(ZOO), tmp_path).with_name("index.html"))
    places = page.values("id")
    assert len(places) == len(set(places))
    inner = [target[1:] for target in page.values("href") if target.startswith("#")]
    assert len(inner) > 42 and set(inner) <= set(places)
    assert all(t.startswith(("#", "https://", "data:,")) for t in page.values("href"))


def test_nothing_outside_the_file_is_named_for_loading(tmp_path: Path) -> None:
    page = read(write_published_tables(load_experiment(ZOO), tmp_path).with_name("index.html"))
    loaded = [a for tag, a in page.tags if tag not in ("a", "svg")]
    assert not [a for a in loaded for name in ("src", "href") if not (a.get(name) or "data:").startswith("data:")]
    assert "url(" not in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_text_of_others_stays_text(load: Load) -> None:
    experiment = load(TWO + f'description: "{EVIL.replace(chr(34), "")}"\n')
    one, two = experiment.cells
    odd = replace(
        finished(one),
        run_id=EVIL,
        commit=EVIL,
        files={"log": FileRecord(path=f"javascript:{EVIL}", size=1, sha256=None)},
    )
    stray = replace(finished(two), name=EVIL, cell=EVIL)
    runs = [odd, unfinished(two, "FAILED", reason=EVIL), stray]
    page = read(write_report(experiment, runs, Path("out"), server="https://tracking.example").site)
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    assert not [t for t in page.values("href") if t.startswith("javascript:")]
    assert any(EVIL in text for text in page.texts)


def test_addresses() -> None:
    assert href("https://a.example/b?c=d#e") == "https://a.example/b?c=d#e"
    assert href("../runs/a b+c=0.1/log.json") == "../runs/a%20b+c=0.1/log.json"
    assert href("javascript:alert(1)") == "javascript%3Aalert%281%29"


def full_runs(experiment: Experiment, root: Path) -> Iterator[Record]:
    """84 cells with three seeds of 36 epochs and predictions as large as real ones, of noise, which no JPEG shrinks."""
    import cv2

    noise = np.random.default_rng(0).integers(0, 256, (300, 640, 3), np.uint8)
    _, picture = cv2.imencode(".png", noise)
    history = tuple(EpochAP(epoch=n, bbox_mAP=0.01 * n, segm_mAP=0.009 * n) for n in range(1, 37))
    for number, planned in enumerate(experiment.cells):
        for seed in (0, 1, 2):
            run = finished(planned, seed, history=history, key=f"{number:08d}{seed:02d}", fps=8.0 + number / 7)
            folder = root / "full" / run.key
            (folder / "predictions").mkdir(parents=True)
            for name in ("sheet.jpg", "1.png"):
                (folder / "predictions" / name).write_bytes(picture.tobytes())
            files = {role: replace(file, path=str(folder / Path(file.path).name)) for role, file in run.files.items()}
            yield replace(run, files=files)


@pytest.mark.slow
def test_84_cells_with_curves_and_pictures_stay_below_2_mb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = FULL.read_text(encoding="utf-8") + "seeds: [0, 1, 2]\n"
    (tmp_path / "full.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    experiment = load_experiment(Path("full.yaml"))
    paths = write_report(experiment, full_runs(experiment, tmp_path / "runs"), Path("out"), run_root=Path("runs"))
    page = paths.site.read_text(encoding="utf-8")
    assert paths.site.stat().st_size <= LIMIT < 2**21
    assert page.count('<article id="cell-') == 84 == page.count(">Curves</h3>")
    assert page.count('src="data:image/jpeg;base64,') > 40
    assert check_report(experiment, Path("out")) == []


def test_a_picture_that_has_changed_is_found(load: Load) -> None:
    experiment = load(TWO)
    paths = write_report(experiment, list(map(finished, experiment.cells)), Path("out"))
    kept = Path("out/pictures/0123456789.jpg")
    kept.parent.mkdir()
    kept.write_bytes(b"a picture")
    (found,) = check_report(experiment, Path("out"))
    assert found.startswith("out/index.html:")
    assert "data:image" not in paths.site.read_text(encoding="utf-8")
