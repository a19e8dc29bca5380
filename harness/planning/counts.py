"""How many images a run trains and tests on, remembered by the content of the annotations."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.files import read_json, write_json
from harness.recipe import Recipe
from harness.run_spec import SplitSpec
from harness.shortening import Shortening

if TYPE_CHECKING:
    from harness.data.coco import CocoIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Of a data set, as a recipe uses it."""

    train: tuple[int, ...]  # in each group of equal orientation, of which each is filled up to whole batches
    val: int

    def iterations(self, recipe: Recipe, shortening: Shortening) -> int:
        """Of an epoch."""
        whole = sum(-(-count * recipe.repeats // recipe.batch) for count in self.train)
        return min(whole, shortening.iterations_per_epoch or whole)

    def tested(self, shortening: Shortening) -> int:
        """Of a test."""
        return min(self.val, shortening.eval_images or self.val)


KNOWN = {"coco2017": Images(train=(117_266,), val=5_000)}
"""Of data sets that need not be at hand to plan with them."""


def count_images(train: SplitSpec | None, val: SplitSpec, min_size: int, cache_root: Path) -> Images:
    """The images of a data set; its annotations are read once for each content and `min_size` (Recipe).

    train: None where nothing is trained. Raises UserError where they are missing or broken.
    """
    digests = [split.digest[:16] for split in (train, val) if split]
    file = cache_root / "counts" / f"{'-'.join(digests)}-{min_size}.json"
    if file.exists():
        plain = read_json(file)
        return Images(train=tuple(plain["train"]), val=plain["val"])
    found = Images(train=_groups(train, min_size) if train else (), val=len(_index(val).image_ids))
    write_json(file, asdict(found))
    return found


def _groups(split: SplitSpec, min_size: int) -> tuple[int, ...]:
    from harness.data.coco import train_filter

    index = _index(split)
    wide = index.landscape()[train_filter(index, min_size)]
    return int(wide.sum()), int((~wide).sum())


def _index(split: SplitSpec) -> "CocoIndex":
    from harness.data.coco import load_index

    return load_index(split.split)
