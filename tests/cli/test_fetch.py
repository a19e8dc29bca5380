"""`harness fetch EXPERIMENT` against a local server that has files of the published names."""

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cli.conftest import Harness
from harness import downloads
from harness.data import fetch as coco
from harness.detection.weights import SOURCES

MATRIX = """\
name: both
axes: {backbone: [R-50, X-101-64x4d]}
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


NAMES = ("torchvision://resnet50", "open-mmlab://resnext101_64x4d")


@pytest.fixture
def host(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that the server serves: the two backbones' files, as small as they can be."""
    folder = tmp_path / "host"
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(downloads, "BACK_OFF", 0.001)
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    for number, name in enumerate(NAMES):
        new = folder / "new"
        torch.save({"conv1.weight": torch.full((2,), float(number))}, new)
        digest = hashlib.sha256(new.read_bytes()).hexdigest()[:8]
        file = f"{SOURCES[name].file.rsplit('-', 1)[0]}-{digest}.pth"
        new.rename(folder / file)
        source = replace(SOURCES[name], file=file, url=f"{url}/{file}", sha256_prefix=digest)
        monkeypatch.setitem(SOURCES, name, source)
    monkeypatch.setattr(coco.fetch_coco, "__kwdefaults__", {**coco.fetch_coco.__kwdefaults__, "base_url": url})
    (place / "both.yaml").write_text(MATRIX)
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_all_that_an_experiment_needs(harness: Harness, host: Path, place: Path, shapes: Path) -> None:
    with (place / "harness.toml").open("a") as file:
        file.write(f'[datasets.coco2017]\nroot = "{shapes}"\n')  # a set that is here is not fetched
    expected = [f"{name}: {place / 'cache/weights' / SOURCES[name].file}" for name in sorted(NAMES)]
    for _ in range(2):
        code, out, err = harness("fetch", "both.yaml")
        assert (code, out.splitlines(), err) == (0, [*expected, f"coco2017: {shapes}"], "")
    (host / SOURCES[NAMES[1]].file).unlink()  # what is there is not asked for again
    assert harness("fetch", "both.yaml")[0] == 0


def test_what_cannot_be_fetched_does_not_keep_the_rest(harness: Harness, host: Path, place: Path) -> None:
    """One file is not on the server, another is not the published one, and COCO 2017 is neither there nor named."""
    (host / SOURCES[NAMES[1]].file).unlink()
    code, out, err = harness("fetch", "both.yaml")
    assert (code, out) == (2, f"{NAMES[0]}: {place / 'cache/weights' / SOURCES[NAMES[0]].file}\n")
    lines = err.splitlines()
    assert lines[0].startswith(f"error: {NAMES[1]}: http://127.0.0.1:")
    assert lines[0].endswith("the server answers 404 File not found")
    assert lines[1].startswith("coco2017: unknown data set 'coco2017'")
    (host / SOURCES[NAMES[1]].file).write_bytes(b"something else")
    code, out, err = harness("fetch", "both.yaml")
    assert (code, "what was received is removed" in err) == (2, True)
    assert not list((place / "cache/weights").glob("resnext*"))


def test_coco_is_fetched_to_its_root(harness: Harness, host: Path, place: Path) -> None:
    """The server has none, which is told with what to bring where."""
    with (place / "harness.toml").open("a") as file:
        file.write('[datasets.coco2017]\nroot = "coco"\n')
    code, _, err = harness("fetch", "both.yaml")
    assert code == 2
    assert "annotations_trainval2017.zip: the server answers 404" in err
    assert f"or its unpacked folder to {place / 'coco/annotations'}" in err


def test_a_set_of_another_name_has_to_be_there(harness: Harness, place: Path) -> None:
    code, out, _ = harness("fetch", "tiny.yaml")
    assert (code, out.split(":")[0]) == (0, "shapes")
    (place / "harness.toml").write_text('[datasets.shapes]\nroot = "nowhere"\n')
    code, _, err = harness("fetch", "tiny.yaml")
    assert (code, "nowhere" in err) == (2, True)
