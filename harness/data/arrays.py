"""Named numpy arrays in one file that processes map into memory, so that all of a machine share one copy.

The file is a safetensors file (8 bytes: the length of the header; the header in JSON; the arrays): numbers alone, no
code. Its metadata holds a CRC-32 of all else, so that damage is noticed; a sha256 takes six times as long.
"""

import json
import mmap
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.files import replacing

Arrays = dict[str, NDArray[Any]]

_KINDS = {"F64": "<f8", "I64": "<i8", "U8": "|u1", "BOOL": "|b1"}
_NAMES = {np.dtype(kind): name for name, kind in _KINDS.items()}
_ALIGN = 8


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays of float64, int64, uint8 and bool, and of text, atomically; the longest items first.

    Raises UserError where the file cannot be written.
    """
    plain = {name: _plain(array) for name, array in arrays.items()}
    order = sorted(plain, key=lambda name: -plain[name].itemsize)  # so that all are aligned
    header: dict[str, Any] = {}
    end = 0
    for name in order:
        array, start = plain[name], end
        end += array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": array.shape, "data_offsets": [start, end]}
    text = " ".join(name for name, array in arrays.items() if array.dtype.kind == "U")
    checksum = _checksum(header, text, *(plain[name].data for name in order))
    head = json.dumps({"__metadata__": {"crc32": checksum, "text": text}, **header}).encode()
    head += b" " * (-len(head) % _ALIGN)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name in order:
            file.write(plain[name].data)


def map_arrays(path: Path) -> Arrays | None:
    """The arrays of a file, read-only, or None where it cannot be read or is damaged."""
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # ValueError: an empty file
        return None
    start = 8 + int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8:start])
        metadata = header.pop("__metadata__")
        if _checksum(header, metadata["text"], memoryview(content)[start:]) != metadata["crc32"]:
            return None
    except (ValueError, KeyError, TypeError, AttributeError):  # the header is damaged
        return None
    arrays = {name: _mapped(content, start, entry) for name, entry in header.items()}
    return arrays | {name: _text(arrays[name]) for name in metadata["text"].split()}


def _checksum(header: dict[str, Any], text: str, *data: memoryview) -> str:
    value = zlib.crc32(json.dumps([header, text]).encode())
    for part in data:
        value = zlib.crc32(part, value)
    return f"{value:08x}"


def _mapped(content: mmap.mmap, start: int, entry: dict[str, Any]) -> NDArray[Any]:
    kind, shape = np.dtype(_KINDS[entry["dtype"]]), tuple(entry["shape"])
    count = int(np.prod(shape))
    return np.frombuffer(content, kind, count, start + entry["data_offsets"][0]).reshape(shape)


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Contiguous; text (N) as its UTF-32 code (N x bytes)."""
    if array.dtype.kind == "U":
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        return array.view(np.uint8).reshape(len(array), array.itemsize)
    return np.ascontiguousarray(array)


def _text(codes: NDArray[np.uint8]) -> NDArray[np.str_]:
    return codes.view(f"<U{codes.shape[1] // 4}").reshape(-1)
