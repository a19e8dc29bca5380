"""Finding, fetching and loading pretrained backbones, with generated files in the published form."""

import functools
import hashlib
import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from harness import downloads
from harness.detection.resnet import ResNet
from harness.detection.weights import (
    SOURCES,
    fetch,
    find,
    load_backbone,
    missing_message,
    read_state,
    tensor_digest,
    verify_name,
)
from harness.errors import UserError

R50 = "torchvision://resnet50"


class TinyBackbone(nn.Module):
    """The keys of a backbone's stem."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)


def stem(value: float = 0.5) -> dict[str, Tensor]:
    names = ("bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var")
    return {"conv1.weight": torch.full((4, 3, 3, 3), value)} | {name: torch.full((4,), value) for name in names}


def save(folder: Path, content: object, *, name: str = "tiny", legacy: bool = False) -> Path:
    """A file that is named as published files are: with the first 8 digits of its own sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "new.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path.rename(folder / f"{name}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth")


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a server of tmp_path/host."""
    monkeypatch.setenv("no_proxy", "*")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "host"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def publish(monkeypatch: pytest.MonkeyPatch, path: Path, *aliases: Path) -> None:
    """Let the generated files stand for torchvision's ResNet-50."""
    source = replace(
        SOURCES[R50],
        file=path.name,
        sha256_prefix=path.stem[-8:],
        aliases=tuple(alias.name for alias in aliases),
    )
    monkeypatch.setitem(SOURCES, R50, source)


def test_sources_are_the_published_files() -> None:
    openmmlab = "https://download.openmmlab.com/pretrain/third_party/"
    torchvision_urls = {
        "torchvision://resnet18": torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url,
        "torchvision://resnet50": torchvision.models.ResNet50_Weights.IMAGENET1K_V1.url,
        "torchvision://resnet101": torchvision.models.ResNet101_Weights.IMAGENET1K_V1.url,
    }
    assert {name: source.url for name, source in SOURCES.items()} == torchvision_urls | {
        "open-mmlab://detectron2/resnet50_caffe": f"{openmmlab}resnet50_msra-5891d200.pth",
        "open-mmlab://detectron2/resnet101_caffe": f"{openmmlab}resnet101_msra-6cc46731.pth",
        "open-mmlab://resnext101_32x4d": f"{openmmlab}resnext101_32x4d-a5af3160.pth",
        "open-mmlab://resnext101_64x4d": f"{openmmlab}resnext101_64x4d-ee2c6f71.pth",
        "open-mmlab://detectron2/resnext101_32x8d": f"{openmmlab}resnext101_32x8d-1516f1aa.pth",
    }
    for name, source in SOURCES.items():
        assert source.name == name
        assert source.url.endswith("/" + source.file)
        assert source.file.endswith(f"-{source.sha256_prefix}.pth")
    assert SOURCES["open-mmlab://resnext101_32x4d"].sha256_prefix == "a5af3160"


def test_sources_are_light() -> None:
    code = "import sys, harness.detection.weights; sys.exit(bool({'torch', 'http.client'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_source(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown pretrained weights 'torchvision://resnet52', expected one of torch"):
        find("torchvision://resnet52", tmp_path)


def test_find_prefers_the_own_cache(tmp_path: Path, torch_home: Path) -> None:
    assert find(R50, tmp_path) is None
    torch_home.mkdir(parents=True)
    (torch_home / "resnet50-0676ba61.pth").touch()
    assert find(R50, tmp_path) == torch_home / "resnet50-0676ba61.pth"
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "resnet50-0676ba61.pth").touch()
    assert find(R50, tmp_path) == tmp_path / "weights" / "resnet50-0676ba61.pth"
    assert find("torchvision://resnet101", tmp_path) is None


def test_torch_cache_without_torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    path = tmp_path / "xdg" / "torch" / "hub" / "checkpoints" / "resnet50-0676ba61.pth"
    assert str(path.parent) == f"{torch.hub.get_dir()}/checkpoints"  # torch's own rule
    path.parent.mkdir(parents=True)
    path.touch()
    assert find(R50, tmp_path) == path


def test_missing_message_names_file_folders_and_command(tmp_path: Path, torch_home: Path) -> None:
    message = missing_message(R50, tmp_path)
    expected = ("resnet50-0676ba61.pth", str(tmp_path / "weights"), str(torch_home), "harness fetch", SOURCES[R50].url)
    assert all(part in message for part in expected)
    assert "\n" not in message


def test_an_older_file_counts_once_its_tensors_are_proven_equal(
    tmp_path: Path, torch_home: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchvision's earlier file: other bytes, the same tensors; only the present file can tell."""
    older = save(torch_home, stem(), name="resnet50", legacy=True)
    present = save(tmp_path / "host", stem() | {"bn1.num_batches_tracked": torch.tensor(0)}, name="resnet50")
    publish(monkeypatch, present, older)
    assert find(R50, tmp_path) is None
    message = missing_message(R50, tmp_path)
    proof = tmp_path / "weights" / f"{present.name}.tensors"
    assert message.endswith(f"({older} may hold other tensors: {proof}, which would tell, is missing)")
    path = fetch(R50, tmp_path, url=f"{host}/{present.name}")
    assert (path, find(R50, tmp_path)) == (tmp_path / "weights" / present.name, path)
    path.unlink()  # as on another machine, to which only the note was brought
    assert proof.read_text() == f"{tensor_digest(stem())}\n"
    assert find(R50, tmp_path) == older
    assert fetch(R50, tmp_path) == older


def test_an_older_file_of_other_tensors_never_counts(
    tmp_path: Path, torch_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = save(tmp_path / "weights", stem(), name="resnet50")
    older = save(torch_home, stem(0.25), name="resnet50", legacy=True)
    publish(monkeypatch, present, older)
    assert fetch(R50, tmp_path) == present
    present.unlink()
    assert find(R50, tmp_path) is None
    assert missing_message(R50, tmp_path).endswith(f"({older} holds other tensors)")


def test_fetch_downloads_once(tmp_path: Path, torch_home: Path, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    published = save(tmp_path / "host", stem(), name="resnet50")
    publish(monkeypatch, published)
    sizes: list[int] = []
    path = fetch(R50, tmp_path, url=f"{host}/{published.name}", progress=lambda done, total: sizes.append(done))
    assert path == tmp_path / "weights" / published.name
    assert path.read_bytes() == published.read_bytes()
    assert sizes[-1] == path.stat().st_size
    published.unlink()
    assert fetch(R50, tmp_path, url=f"{host}/{published.name}") == path
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match=f"{path.name}: sha256 .*; delete it"):
        fetch(R50, tmp_path)


def test_fetch_refuses_other_bytes(tmp_path: Path, torch_home: Path, host: str) -> None:
    other = save(tmp_path / "host", stem())
    digest = hashlib.sha256(other.read_bytes()).hexdigest()
    with pytest.raises(UserError, match=f"sha256 {digest}, expected 0676ba61"):
        fetch(R50, tmp_path, url=f"{host}/{other.name}")
    assert list((tmp_path / "weights").iterdir()) == []


def test_fetch_uses_the_published_url(tmp_path: Path, torch_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def receive(url: str, path: Path, **named: object) -> None:
        calls.append(((url, path), named))
        save(path.parent, stem()).rename(path)

    monkeypatch.setattr(downloads, "download", receive)
    fetch(R50, tmp_path)
    target = tmp_path / "weights" / "resnet50-0676ba61.pth"
    url = "https://download.pytorch.org/models/resnet50-0676ba61.pth"
    assert calls == [((url, target), {"sha256_prefix": "0676ba61", "progress": None})]


def test_a_digest_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    path = save(tmp_path, stem())
    digests = tmp_path / "digests"
    verify_name(path, remember=digests)
    (note,) = digests.iterdir()
    note.write_text("0" * 64)  # the note is believed,
    with pytest.raises(UserError, match=rf"sha256 0+, expected {path.stem[-8:]}"):
        verify_name(path, remember=digests)
    path.write_bytes(path.read_bytes() + b"more")  # but not for another file
    with pytest.raises(UserError, match=rf"sha256 (?!0+,)\w+, expected {path.stem[-8:]}"):
        verify_name(path, remember=digests)


@pytest.mark.parametrize(
    "content",
    [
        stem(),
        {"state_dict": stem(), "meta": {"epoch": 1}},
        {f"backbone.{key}": value for key, value in stem().items()},
        stem()
        | {"fc.weight": torch.zeros(10, 4), "fc.bias": torch.zeros(10), "bn1.num_batches_tracked": torch.tensor(9)},
        stem() | {"conv1.bias": torch.zeros(4)},
    ],
    ids=["plain", "state_dict", "prefix", "classifier", "caffe bias"],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_load_tolerates_the_published_forms(tmp_path: Path, content: object, legacy: bool) -> None:
    backbone = TinyBackbone()
    load_backbone(backbone, save(tmp_path, content, legacy=legacy))
    for key, value in stem().items():
        assert torch.equal(backbone.state_dict()[key], value)
    assert backbone.bn1.num_batches_tracked.item() == 0


def test_load_names_what_does_not_fit(tmp_path: Path) -> None:
    state = stem() | {"bn1.bias": torch.zeros(5), "layer1.0.conv1.bias": torch.zeros(4)}
    del state["bn1.running_var"]
    backbone = TinyBackbone()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(UserError) as error:
        load_backbone(backbone, save(tmp_path, state))
    assert str(error.value).endswith(
        ".pth: not the weights of this backbone; missing: bn1.running_var; "
        "unexpected: layer1.0.conv1.bias; of another shape: bn1.bias (5,) for (4,)"
    )
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_load_of_another_depth_is_one_short_line(tmp_path: Path) -> None:
    with torch.device("meta"):
        backbone = ResNet(depth=101, style="pytorch")
    with pytest.raises(UserError) as error:
        load_backbone(backbone, save(tmp_path, stem()))
    # 104 convolutions and 104 BN of 4 tensors are 520; less the 5 of the stem, less the 3 that are named: 512.
    assert "and 512 more" in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected tensors by name"),
        ({"state_dict": {"conv1.weight": "text"}}, "expected tensors by name"),
        ({"state_dict": Path("code")}, "cannot be read as plain tensors"),
    ],
)
def test_load_refuses_what_is_not_tensors(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_backbone(TinyBackbone(), save(tmp_path, content))
    assert "\n" not in str(error.value)


def test_load_of_a_damaged_or_missing_file(tmp_path: Path) -> None:
    path = save(tmp_path, stem())
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=f"{path.name}: cannot be read"):
        load_backbone(TinyBackbone(), path)
    with pytest.raises(UserError, match=r"nowhere\.pth: no such file"):
        load_backbone(TinyBackbone(), tmp_path / "nowhere.pth")


def test_load_executes_nothing(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "executed",))  # type: ignore[return-value]

    with pytest.raises(UserError, match="cannot be read as plain tensors"):
        load_backbone(TinyBackbone(), save(tmp_path, stem() | {"trap": Trap()}))
    assert not (tmp_path / "executed").exists()


@pytest.mark.slow
def test_torchvision_state_loads_into_resnet18(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(weights=None)
    backbone = ResNet(depth=18, style=None)
    path = save(tmp_path, theirs.state_dict(), name="resnet18")
    load_backbone(backbone, path)
    expected = {key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    assert all(torch.equal(value, expected[key]) for key, value in backbone.state_dict().items())


def test_verify_name(tmp_path: Path) -> None:
    path = save(tmp_path, stem())
    verify_name(path)
    verify_name(path.rename(tmp_path / "no_digest.pth"))
    with pytest.raises(UserError, match="expected 01234567"):
        verify_name((tmp_path / "no_digest.pth").rename(tmp_path / "tiny-01234567.pth"))


def test_tensor_digest_is_of_the_tensors_alone(tmp_path: Path) -> None:
    state = {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor([[1, 2]])}
    # Worked from the definition: name, dtype and shape in a line, then the little-endian bytes, in the names' order.
    content = b"a torch.int64 (1, 2)\n" + bytes([1, *[0] * 7, 2, *[0] * 7])
    content += b"b torch.float32 (2,)\n" + bytes.fromhex("0000803f00000040")
    assert tensor_digest(state) == hashlib.sha256(content).hexdigest()
    assert tensor_digest(dict(reversed(state.items()))) == tensor_digest(state)
    digests = {
        tensor_digest(state | change)
        for change in (
            {},
            {"c": torch.zeros(0)},
            {"b": torch.tensor([1.0, 2.5])},
            {"b": torch.tensor([[1.0, 2.0]])},
            {"b": torch.tensor([1.0, 2.0]).view(torch.int32)},
        )
    }
    assert len(digests) == 5
    zipped, legacy = save(tmp_path, stem()), save(tmp_path, stem(), legacy=True)
    assert zipped.read_bytes() != legacy.read_bytes()
    assert tensor_digest(read_state(zipped)) == tensor_digest(read_state(legacy)) == tensor_digest(stem())


def test_every_alias_follows_the_naming_convention() -> None:
    for source in SOURCES.values():
        for alias in source.aliases:
            assert re.fullmatch(rf"{source.file.split('-')[0]}-[0-9a-f]{{8}}\.pth", alias)
