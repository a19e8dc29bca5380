"""A Mask R-CNN benchmark harness: an experiment matrix in, trained cells and published tables out.

For notebooks: recipe_for, build_model, load_experiment, records. Importing the package imports nothing else.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.public import build_model, load_experiment, recipe_for, records

__all__ = ["build_model", "load_experiment", "recipe_for", "records"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from harness import public

        return getattr(public, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
