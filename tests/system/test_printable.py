from pathlib import Path

import pytest

from thawlab.system.printable import one_line, printable, visible


@pytest.mark.parametrize("name", ["cat.jpg", "café 靴.png", "tab\there", r"back\slash", ""])
def test_a_name_that_can_be_encoded_stays_as_it_is(name):
    assert printable(name) == name


def test_bytes_that_are_no_utf_8_are_written_out():
    assert printable("caf\udce9 1.png") == r"caf\xe9 1.png"
    assert printable(Path("a/b\udce9ret")) == r"a/b\xe9ret"


def test_half_a_surrogate_pair_that_stands_for_no_byte_is_written_out_too():
    assert printable("a\ud800é") == r"a\ud800é"


def test_orders_to_a_terminal_and_turns_of_direction_are_written_out():
    assert visible("a\x1b[2Jb\rc\u202egnp.exe\x9b") == r"a\x1b[2Jb\rc\u202egnp.exe\x9b"
    assert visible("two\nlines\tand 靴 é") == "two\nlines\tand 靴 é"


def test_a_name_in_one_line_forges_no_line_after_it():
    assert one_line("cat\nerror: none\tat all") == r"cat\nerror: none\tat all"
