import pytest

from thawlab.system.shortening import shortened


def test_names_that_fit_stay_as_they_are():
    assert shortened(["0.001", "0.01", "all"]) == ["0.001", "0.01", "all"]


def test_long_names_keep_their_beginning_and_their_end():
    names = [f"tf_efficientnet_lite{number}" for number in range(3)]
    assert shortened(names) == ["tf_effic…net_lite0", "tf_effic…net_lite1", "tf_effic…net_lite2"]


@pytest.mark.parametrize(
    "names",
    [
        [f"vit_small_patch{size}_224.augreg_in21k_ft_in1k" for size in (8, 14, 16, 32)],
        [f"0.00012345678901{number:02}9999999999" for number in range(12)],
        ["a", "b" * 40, "b" * 41, "b" * 42],
        [f"{'x' * 30}{number}{'y' * 30}" for number in range(3)],
        ["aaaaaaaa…aaaaaaaaa", "a" * 30],
        [f"{'p' * 20}{number}{'q' * 40}" for number in ("1", "2", "12")],
    ],
)
def test_names_that_differ_are_never_shortened_to_the_same(names):
    short = shortened(names)
    assert len(set(short)) == len(names)
    assert all(len(name) <= 18 for name in short)


def test_equal_names_stay_equal():
    first, second, third = shortened(["n" * 30, "n" * 30, "n" * 31])
    assert first == second != third
