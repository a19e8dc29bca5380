"""The sample predictions of a report's page: small copies of what runs drew, kept in the report's folder."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.files import replacing
from harness.reporting.rows import Row

PICTURES = "pictures"
"""The folder of KEY.jpg, a picture for the first finished run of a row."""
BUDGET = 500_000
"""Bytes of all pictures together, of which each has its share; as text in a page they are a third larger."""
LARGEST = 80_000
"""Bytes of one of few."""
SHEET = 40_000
"""Bytes below which all pictures of a run on one sheet are too small to see anything."""
QUALITY = 72


def shrink_pictures(rows: Sequence[Row], run_root: Path, output: Path) -> None:
    """Write pictures/KEY.jpg of every row whose first finished run left predictions below `run_root`.

    A picture that is there of a row whose run left none stays; others go.
    """
    for path in (output / PICTURES).glob("*.jpg"):
        if path.stem not in _first_keys(rows):
            path.unlink()
    found = {key: folder for key, folder in _folders(rows, run_root).items() if (folder / "sheet.jpg").is_file()}
    for key, folder in found.items():
        small = _small(folder, min(LARGEST, BUDGET // len(found)))
        with replacing(output / PICTURES / f"{key}.jpg") as temporary:
            temporary.write_bytes(small)


def read_pictures(rows: Sequence[Row], output: Path) -> dict[str, bytes]:
    """Key of a row's first finished run -> the picture that the report keeps of it."""
    paths = {key: output / PICTURES / f"{key}.jpg" for key in _first_keys(rows)}
    return {key: path.read_bytes() for key, path in paths.items() if path.is_file()}


def _first_keys(rows: Sequence[Row]) -> list[str]:
    return [row.finished[0].key for row in rows if row.finished]


def _folders(rows: Sequence[Row], run_root: Path) -> Mapping[str, Path]:
    """Of each row's first finished run, where its predictions lie."""
    runs = [row.finished[0] for row in rows if row.finished and "config" in row.finished[0].files]
    return {run.key: run_root / Path(run.files["config"].path).parent / "predictions" for run in runs}


def _small(folder: Path, limit: int) -> bytes:
    """As much of the predictions, and as large, as the limit allows; at the least, one picture 240 pixels wide."""
    found = b""
    for found in _candidates(folder, limit):
        if len(found) <= limit:
            break
    return found


def _candidates(folder: Path, limit: int) -> Iterator[bytes]:
    """The sheet of all pictures, then single pictures, ever smaller, as JPEG."""
    import cv2

    sizes: dict[Path, tuple[int, ...]] = {folder / "sheet.jpg": (1280, 1024, 800)} if limit >= SHEET else {}
    sizes |= dict.fromkeys(sorted(folder.glob("*.png"))[:1], (800, 640, 480, 400, 320, 240))
    for path, widths in sizes.items():
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            continue
        for width in widths:
            height = max(1, round(image.shape[0] * width / image.shape[1]))
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            yield encoded.tobytes()
