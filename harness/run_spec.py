"""What a run is to do: a recipe with a seed, on which data. In run.json of its folder."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.files import read_json, write_json
from harness.identity import NUMERICS, digest
from harness.recipe import Recipe, from_dict, to_dict
from harness.run_paths import RunPaths
from harness.shortening import Shortening, shortened

if TYPE_CHECKING:
    from harness.data.coco import CocoSplit

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSpec:
    """One half of a data set: where it is, and the digest of its annotations."""

    images: str
    annotations: str
    digest: str
    indexes: str | None = None  # where parsed annotations are kept

    @property
    def split(self) -> "CocoSplit":
        """As harness/data reads it: images that have been packed since, or unpacked, from where they are now."""
        from harness.data.coco import CocoSplit  # with libraries that take their time
        from harness.data.image_files import folder_or_tar

        indexes = Path(self.indexes) if self.indexes else None
        return CocoSplit(
            images=folder_or_tar(Path(self.images)),
            annotations=Path(self.annotations),
            digest=self.digest,
            indexes=indexes,
        )


class Origin(StrEnum):
    """Where a run's numbers come from. Only trained ones fill the tables of an experiment's own cells."""

    TRAINED = "trained"
    PUBLISHED = "published"  # a published checkpoint, tested here
    PILOT = "pilot"  # a short training that is to tell what the others will take
    IMPORTED = "imported"  # the log of somebody else's training
    BENCHMARK = "benchmark"  # memory and speed of a cell, by themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """The file that a run which was not trained here is made of: a published checkpoint, or a log."""

    path: str
    sha256: str
    url: str = ""  # where it is published


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What a run is to do. Written once, before its first attempt."""

    experiment: str
    description: str  # of the experiment
    name: str  # the cell's name with its overrides
    cell: str
    axes: dict[str, str | bool]
    published: bool
    recipe: Recipe  # with overrides, before the shortening
    suffix: str
    shortening: Shortening
    seed: int
    precision: str  # as executed: fp32, fp16, or bf16 where an fp16 recipe meets a CPU
    identity: str
    train: SplitSpec | None  # None: nothing is trained here
    val: SplitSpec
    weights: str | None  # the pretrained backbone's file
    resources: dict[str, Any]
    origin: Origin = Origin.TRAINED
    source: SourceSpec | None = None  # of a run that was not trained here
    numerics: int = NUMERICS
    schema: int = SCHEMA

    @property
    def key(self) -> str:
        """10 hexadecimal digits: the identity with seed, executed precision, shortening and, of a run that was not

        trained here, its origin and source. One run for one key.
        """
        source = [self.origin, self.source.sha256] if self.source else []
        return digest([self.identity, self.seed, self.precision, asdict(self.shortening), *source])[:10]

    @property
    def folder_name(self) -> str:
        """Sorts by cell and seed, and is unique by the key."""
        return f"{self.name[:160]}-seed{self.seed}-{self.key}"

    @property
    def splits(self) -> dict[str, SplitSpec]:
        """The halves of the data set that the run reads: train (unless nothing is trained) and val."""
        return {"train": self.train, "val": self.val} if self.train else {"val": self.val}

    @property
    def executed(self) -> Recipe:
        """The recipe after the shortening."""
        return shortened(self.recipe, self.shortening)

    @property
    def full(self) -> bool:
        """Whether the result may stand for the cell: trained here, nothing overridden or shortened, run in the recipe's

        precision.
        """
        own = self.origin == Origin.TRAINED and not self.suffix and not self.shortening
        return own and self.precision == self.recipe.precision


def write_spec(paths: RunPaths, spec: RunSpec) -> None:
    """Write run.json and config.json."""
    plain = asdict(spec) | {"recipe": to_dict(spec.recipe), "key": spec.key}
    shown = {"cell": spec.name, "seed": spec.seed, "identity": spec.identity, "shortened": spec.shortening.describe()}
    write_json(paths.config, shown | {"recipe": to_dict(spec.executed)})
    write_json(paths.spec, plain)


def read_spec(paths: RunPaths) -> RunSpec:
    """The specification in run.json.

    Raises UserError where the file is missing or was written by a newer harness.
    """
    plain = read_json(paths.spec)
    if not isinstance(plain, dict) or plain.get("schema") != SCHEMA:
        raise UserError(f"{paths.spec}: not a run of this harness (schema {SCHEMA} expected)")
    plain.pop("key")
    for name, build in (("recipe", from_dict), ("shortening", _shortening), ("train", _split), ("val", _split)):
        plain[name] = plain[name] and build(plain[name])
    plain["origin"] = Origin(plain.get("origin", Origin.TRAINED))
    plain["source"] = SourceSpec(**plain["source"]) if plain.get("source") else None
    return RunSpec(**plain)


def _shortening(values: Mapping[str, Any]) -> Shortening:
    return Shortening(**values)


def _split(values: Mapping[str, Any]) -> SplitSpec:
    return SplitSpec(**values)
