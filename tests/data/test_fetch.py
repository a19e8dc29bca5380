"""Fetching from a small server of our own that holds archives like COCO's."""

import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.data.fetch import ARCHIVES, Archive, fetch_coco
from harness.errors import UserError


def _zip(path: Path, files: dict[str, str]) -> str:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as target:
        for name, content in files.items():
            target.writestr(name, content)
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[tuple[str, tuple[Archive, ...]]]:
    served = tmp_path / "served"
    served.mkdir()
    annotations = {f"annotations/{kind}_val2017.json": "{}" for kind in ("instances", "captions")}
    photos = {
        "val2017/": "",
        "val2017/1.jpg": "one",
        "val2017/2.jpg": "two",
        "../evil.jpg": "",
        "val2017/../../e.jpg": "",
    }
    parts = [
        (annotations, "annotations", "instances_*2017.json", 1),
        (photos, "val2017", "*.jpg", 2),
    ]
    archives = tuple(
        Archive(
            path=f"zips/{folder}.zip",
            md5=_zip(served / f"zips/{folder}.zip", files),
            size=1000,
            folder=folder,
            pattern=pattern,
            files=count,
        )
        for files, folder, pattern, count in parts
    )

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(served))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", archives
    server.shutdown()
    thread.join()
    server.server_close()


def test_fetched_unpacked_and_then_left_alone(tmp_path: Path, host: tuple[str, tuple[Archive, ...]]) -> None:
    url, archives = host
    root = tmp_path / "deep/coco"
    told: list[tuple[str, int, int | None]] = []
    filled = fetch_coco(root, base_url=url, archives=archives, progress=lambda *call: told.append(call))
    assert filled == ["annotations", "val2017"]
    files = sorted(path.relative_to(tmp_path / "deep").as_posix() for path in (tmp_path / "deep").rglob("*.*"))
    assert files == ["coco/annotations/instances_val2017.json", "coco/val2017/1.jpg", "coco/val2017/2.jpg"]
    assert (root / "val2017/2.jpg").read_text() == "two"
    assert told[-1] == ("val2017", 2, 2)
    assert fetch_coco(root, base_url="http://127.0.0.1:9", archives=archives) == []


def test_archives_laid_there_by_hand(tmp_path: Path, host: tuple[str, tuple[Archive, ...]]) -> None:
    _, archives = host
    root = tmp_path / "coco"
    root.mkdir()
    for archive in archives:
        (root / archive.name).write_bytes((tmp_path / "served/zips" / archive.name).read_bytes())
    assert fetch_coco(root, base_url="http://127.0.0.1:9", archives=archives) == ["annotations", "val2017"]


def test_unpacking_goes_on(tmp_path: Path, host: tuple[str, tuple[Archive, ...]]) -> None:
    url, archives = host
    unfinished = tmp_path / "coco/.val2017.partial"
    unfinished.mkdir(parents=True)
    (unfinished / "1.jpg").write_text("uno")  # complete, as its size tells
    (unfinished / "2.jpg").write_text("t")  # cut
    fetch_coco(tmp_path / "coco", base_url=url, archives=archives)
    assert (tmp_path / "coco/val2017/1.jpg").read_text() == "uno"
    assert (tmp_path / "coco/val2017/2.jpg").read_text() == "two"


def test_without_a_network_it_says_what_to_place_where(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        fetch_coco(tmp_path, base_url="http://127.0.0.1:9", archives=ARCHIVES[1:2])
    message = str(caught.value)
    assert f"http://127.0.0.1:9/zips/val2017.zip to {tmp_path / 'val2017.zip'}" in message
    assert f"or its unpacked folder to {tmp_path / 'val2017'}" in message


def test_incomplete_folder_wrong_archive_and_full_disk(tmp_path: Path, host: tuple[str, tuple[Archive, ...]]) -> None:
    url, (annotations, photos) = host
    (tmp_path / "coco/val2017").mkdir(parents=True)
    with pytest.raises(UserError, match=r"val2017: has 0 of 2 files \*.jpg; complete it or move it away"):
        fetch_coco(tmp_path / "coco", base_url=url, archives=(photos,))
    with pytest.raises(UserError, match=r"holds 1 file instances_\*2017.json, expected 2"):
        fetch_coco(tmp_path / "a", base_url=url, archives=(replace(annotations, files=2),))
    with pytest.raises(UserError, match="md5"):
        fetch_coco(tmp_path / "b", base_url=url, archives=(replace(annotations, md5="0" * 32),))
    with pytest.raises(UserError, match=r"2000000000.0 GB are needed, .* GB are free"):
        fetch_coco(tmp_path / "c", base_url=url, archives=(replace(annotations, size=1e18),))
