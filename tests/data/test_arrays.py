"""Arrays in a file: what goes in comes out, as a shared map; what is damaged is not taken."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from harness.data.arrays import map_arrays, write_arrays
from harness.errors import UserError

VALUES = {
    "coordinates": np.arange(6, dtype=np.float64).reshape(3, 2) / 7,
    "crowd": np.array([True, False, True]),
    "none": np.zeros((0, 4)),
    "names": np.array(["a.jpg", "größer.jpg", ""]),
    "bytes": np.frombuffer(b"abc", np.uint8),
    "ids": np.array([-1, 2**62]),
}


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a", VALUES)
    found = map_arrays(tmp_path / "a")
    assert found is not None and found.keys() == VALUES.keys()
    for name, value in VALUES.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape, name
        assert np.array_equal(found[name], value) and not found[name].flags.writeable
        assert found[name].flags.aligned or found[name].dtype.kind == "U"
    assert any(str(tmp_path / "a") in line for line in Path("/proc/self/maps").read_text().splitlines())


@settings(max_examples=25, deadline=None)
@given(st.lists(arrays(st.sampled_from(["f8", "i8", "u1", "?"]), array_shapes(max_dims=2, max_side=5)), max_size=4))
def test_any_arrays(tmp_path_factory: pytest.TempPathFactory, values: list[np.ndarray]) -> None:
    path = tmp_path_factory.mktemp("any") / "a"
    write_arrays(path, {str(n): value for n, value in enumerate(values)})
    found = map_arrays(path)
    assert found is not None and len(found) == len(values)
    assert all(found[str(n)].tobytes() == value.tobytes() for n, value in enumerate(values))


def test_the_layout_is_that_of_safetensors(tmp_path: Path) -> None:
    """https://github.com/huggingface/safetensors: N as 8 bytes, N bytes of JSON, data at data_offsets from there."""
    write_arrays(tmp_path / "a", {"ids": VALUES["ids"]})
    content = (tmp_path / "a").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    assert header["ids"] == {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]}
    assert content[start:] == VALUES["ids"].tobytes()
    assert all(isinstance(value, str) for value in header["__metadata__"].values())


def test_damage_anywhere_is_noticed(tmp_path: Path) -> None:
    """Every third byte altered, but for blanks of the header that say nothing, and the file cut there."""
    path = tmp_path / "a"
    write_arrays(path, {"ids": VALUES["ids"], "names": VALUES["names"]})
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        path.write_bytes(content[:place])
        assert map_arrays(path) is None, place
        altered = bytearray(content)
        altered[place] ^= 1
        path.write_bytes(altered)
        found = map_arrays(path)
        assert found is None or content[place : place + 1] == b" ", place
    assert map_arrays(tmp_path / "none") is None


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_arrays(tmp_path / "file" / "a", VALUES)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
