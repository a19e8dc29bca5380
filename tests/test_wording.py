"""How messages count."""

from harness.wording import count


def test_a_noun_agrees_with_its_number() -> None:
    assert [count(1, "entry"), count(1, "run"), count(1, "process")] == ["1 entry", "1 run", "1 process"]
    assert [count(2, "entry"), count(0, "run"), count(3, "process")] == ["2 entries", "0 runs", "3 processes"]
