"""Runs that stop short of their recipe."""

from hypothesis import given
from hypothesis import strategies as st

from harness.cell import all_cells, parse_name
from harness.recipe import Recipe, diff
from harness.shortening import Shortening, shortened


def test_shortened_moves_the_rate_steps_in_proportion() -> None:
    """3 of 12 epochs: steps 8 and 11 become 2 and 2.75, rounded to 3. A tenth of 1333 x 800: 133.3 x 80."""
    short = shortened(Recipe(), Shortening(epochs=3, image_scale=0.1))
    assert (short.epochs, short.lr_steps) == (3, (2, 3))
    assert (short.train_scales, short.test_scale) == (((133, 80),), (133, 80))
    assert diff(Recipe(), short).keys() == {"epochs", "lr_steps", "train_scales", "test_scale"}


@given(epochs=st.integers(1, 50), cell=st.sampled_from([cell.name for cell in all_cells()]))
def test_shortened_recipes_are_sound(epochs: int, cell: str) -> None:
    short = shortened(parse_name(cell).recipe(), Shortening(epochs=epochs, image_scale=0.0001))
    assert list(short.lr_steps) == sorted(set(short.lr_steps))
    assert all(step >= 1 for step in short.lr_steps)
    assert all(side >= 1 for scale in short.train_scales for side in scale)


def test_a_shortening_says_what_it_does() -> None:
    assert not Shortening()
    assert Shortening(eval_images=0)
    assert Shortening(epochs=2, image_scale=0.12).describe() == "epochs=2, image_scale=0.12"
    assert shortened(Recipe(), Shortening()) == Recipe()
    assert shortened(Recipe(), Shortening(iterations_per_epoch=5, eval_images=9)) == Recipe()
