"""The pretrained backbones of the recipes: their names, where their files are, fetching and loading them.

Light to import: torch and the HTTP client are imported only where a file is opened or fetched.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.files import remembered_sha256, sha256, write_text
from harness.tensorfile import load_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.downloads import Progress

TORCHVISION = "https://download.pytorch.org/models"
OPENMMLAB = "https://download.openmmlab.com/pretrain/third_party"

NAMED_DIGEST = re.compile(r"-([0-9a-f]{8})\.pth$")
"""The torch hub convention: a file name ends with the first 8 digits of the file's sha256."""

UNUSED = re.compile(r"fc\..*|.*\.num_batches_tracked|conv1\.bias")
"""Keys that a backbone has no use for. `conv1.bias` is in the converted Caffe ResNet-50, whose other convolutions have
no bias; the published trainings left it out (their logs: "unexpected key in source state_dict: conv1.bias")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Pretrained weights as the recipes name them."""

    name: str  # in the recipes
    file: str
    url: str
    sha256_prefix: str
    aliases: tuple[str, ...] = ()  # earlier files, said to hold the same tensors in torch's older container


def _source(name: str, base: str, file: str, *aliases: str) -> Source:
    digest = file.removesuffix(".pth")[-8:]
    return Source(name=name, file=file, url=f"{base}/{file}", sha256_prefix=digest, aliases=aliases)


SOURCES = {
    source.name: source
    for source in (
        _source("torchvision://resnet18", TORCHVISION, "resnet18-f37072fd.pth", "resnet18-5c106cde.pth"),
        _source("torchvision://resnet50", TORCHVISION, "resnet50-0676ba61.pth", "resnet50-19c8e357.pth"),
        _source("torchvision://resnet101", TORCHVISION, "resnet101-63fe2227.pth", "resnet101-5d3b4d8f.pth"),
        _source("open-mmlab://detectron2/resnet50_caffe", OPENMMLAB, "resnet50_msra-5891d200.pth"),
        _source("open-mmlab://detectron2/resnet101_caffe", OPENMMLAB, "resnet101_msra-6cc46731.pth"),
        _source("open-mmlab://resnext101_32x4d", OPENMMLAB, "resnext101_32x4d-a5af3160.pth"),
        _source("open-mmlab://resnext101_64x4d", OPENMMLAB, "resnext101_64x4d-ee2c6f71.pth"),
        _source("open-mmlab://detectron2/resnext101_32x8d", OPENMMLAB, "resnext101_32x8d-1516f1aa.pth"),
    )
}
"""What the published recipes start from, by name, and torchvision's ResNet-18. Aliases: torchvision's earlier files."""


def find(source_name: str, cache_root: Path) -> Path | None:
    """The file of these weights in cache_root/weights or torch's own cache, or None.

    An alias counts where no file has the present name, and only if its tensors are those that `fetch` found in the
    present file.
    """
    source = _known(source_name)
    folders = _folders(cache_root)
    for folder in folders:
        if (folder / source.file).is_file():
            return folder / source.file
    proof = _proof(source, cache_root)
    if not proof.exists():
        return None
    tensors = proof.read_text(encoding="utf-8").strip()
    return next((alias for alias in _aliases(source, folders) if tensor_digest(read_state(alias)) == tensors), None)


def fetch(source_name: str, cache_root: Path, *, url: str | None = None, progress: "Progress | None" = None) -> Path:
    """The verified file of these weights, downloaded to cache_root/weights (from `url` if given) if it is nowhere yet.

    Where the weights have earlier file names, the digest of the tensors is noted beside the file: a tiny file that also
    serves another machine, which has an earlier file and no network.
    Raises UserError where the download fails (see harness.downloads) or the file's sha256 is not the published one.
    """
    from harness.downloads import download

    source = _known(source_name)
    path = find(source_name, cache_root)
    if path is None:
        path = cache_root / "weights" / source.file
        download(url or source.url, path, sha256_prefix=source.sha256_prefix, progress=progress)
    else:
        verify_name(path)
    proof = _proof(source, cache_root)
    if source.aliases and not proof.exists():
        write_text(proof, f"{tensor_digest(read_state(path))}\n")
    return path


def missing_message(source_name: str, cache_root: Path, experiment: str = "EXPERIMENT") -> str:
    """One line for the user: which file is missing, where it was looked for, and what to do.

    experiment: the matrix file that needs it, as commands name it.
    """
    source = _known(source_name)
    own, torch_hub = _folders(cache_root)
    message = (
        f"pretrained weights {source.name} are missing: no {source.file} in {own} or {torch_hub}; "
        f"run `harness fetch {experiment}` where there is a network, or place {source.url} there"
    )
    if older := next(_aliases(source, (own, torch_hub)), None):
        proof = _proof(source, cache_root)
        why = (
            "holds other tensors"
            if proof.exists()
            else f"may hold other tensors: {proof}, which would tell, is missing"
        )
        message += f" ({older} {why})"
    return message


def verify_name(path: Path, *, remember: Path | None = None) -> None:
    """Raise UserError where a file whose name ends with 8 digits of a sha256 has another one.

    remember: a folder in which digests are kept while path, size and time of the file stay the same.
    """
    if expected := NAMED_DIGEST.search(path.name):
        found = sha256(path) if remember is None else remembered_sha256(path, remember)
        if not found.startswith(expected[1]):
            raise UserError(f"{path}: sha256 {found}, expected {expected[1]}...; delete it and fetch it again")


def read_state(path: Path) -> "dict[str, Tensor]":
    """A backbone's tensors by published key, from the top level of the file or its `state_dict`.

    The prefix `backbone.` and what a backbone has no use for (classifier, BN's step counters) are dropped.
    Raises UserError where the file cannot be read as tensors alone: nothing in it is executed.
    """
    import torch

    content = load_tensors(path)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path}: expected tensors by name, at the top level or under 'state_dict'")
    named = {key.removeprefix("backbone."): value for key, value in state.items()}
    return {key: value for key, value in named.items() if not UNUSED.fullmatch(key)}


def load_backbone(backbone: "nn.Module", path: Path) -> None:
    """Copy the file's tensors into the backbone.

    Raises UserError naming the keys that are missing, unexpected or of another shape; the backbone is then unchanged.
    """
    state = read_state(path)
    own = {key: value for key, value in backbone.state_dict().items() if not UNUSED.fullmatch(key)}
    if fault := misfit(state, own):
        raise UserError(f"{path}: not the weights of this backbone; {fault}")
    backbone.load_state_dict(state, strict=False)


def misfit(state: "Mapping[str, Tensor]", own: "Mapping[str, Tensor]") -> str:
    """What keeps `state` from being loaded where tensors are called and shaped as in `own`; empty where it fits."""
    faults = {
        "missing": own.keys() - state.keys(),
        "unexpected": state.keys() - own.keys(),
        "of another shape": {
            f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
            for key in own.keys() & state.keys()
            if own[key].shape != state[key].shape
        },
    }
    return "; ".join(f"{kind}: {_few(keys)}" for kind, keys in faults.items() if keys)


def tensor_digest(state: "Mapping[str, Tensor]") -> str:
    """The sha256 of names, dtypes, shapes and bytes, in the names' order: the same in whatever file the tensors lie."""
    import torch

    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _few(keys: set[str], limit: int = 3) -> str:
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(sorted(keys)[:limit]) + more


def _known(source_name: str) -> Source:
    if source_name not in SOURCES:
        raise UserError(f"unknown pretrained weights '{source_name}', expected one of {', '.join(SOURCES)}")
    return SOURCES[source_name]


def _folders(cache_root: Path) -> tuple[Path, Path]:
    # torch.hub.get_dir() without importing torch.
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    torch_home = Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser()
    return cache_root / "weights", torch_home / "hub" / "checkpoints"


def _proof(source: Source, cache_root: Path) -> Path:
    """Where the digest of the source's tensors is noted."""
    return cache_root / "weights" / f"{source.file}.tensors"


def _aliases(source: Source, folders: Iterable[Path]) -> Iterator[Path]:
    return (path for folder in folders for name in source.aliases if (path := folder / name).is_file())
