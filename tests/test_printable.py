from pathlib import Path

import pytest

from thawlab.printable import printable


@pytest.mark.parametrize("name", ["cat.jpg", "café 靴.png", "tab\there", r"back\slash", ""])
def test_a_name_that_can_be_encoded_stays_as_it_is(name):
    assert printable(name) == name


def test_bytes_that_are_no_utf_8_are_written_out():
    assert printable("caf\udce9 1.png") == r"caf\xe9 1.png"
    assert printable(Path("a/b\udce9ret")) == r"a/b\xe9ret"


def test_half_a_surrogate_pair_that_stands_for_no_byte_is_written_out_too():
    assert printable("a\ud800é") == r"a\ud800é"
