"""How a run stops short of its recipe."""

from dataclasses import asdict, dataclass, replace

from harness.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortening:
    """What is left out, for demos and trials. Such a run is marked wherever it is shown."""

    epochs: int | None = None
    iterations_per_epoch: int | None = None
    image_scale: float | None = None  # factor on every training and test scale
    eval_images: int | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in asdict(self).values())

    def describe(self) -> str:
        """Such as "epochs=2, image_scale=0.12"."""
        return ", ".join(f"{name}={value}" for name, value in asdict(self).items() if value is not None)


def shortened(recipe: Recipe, shortening: Shortening) -> Recipe:
    """The recipe as it is executed: fewer epochs (rate steps in proportion) and smaller images."""
    if shortening.epochs is not None:
        factor = shortening.epochs / recipe.epochs
        steps = tuple(dict.fromkeys(max(1, round(step * factor)) for step in recipe.lr_steps))
        recipe = replace(recipe, epochs=shortening.epochs, lr_steps=steps)
    if shortening.image_scale is not None:
        recipe = replace(
            recipe,
            train_scales=tuple(_scaled(scale, shortening.image_scale) for scale in recipe.train_scales),
            test_scale=_scaled(recipe.test_scale, shortening.image_scale),
        )
    return recipe


def _scaled(scale: tuple[int, int], factor: float) -> tuple[int, int]:
    return max(1, round(scale[0] * factor)), max(1, round(scale[1] * factor))
