"""How many random views are stored, for so many passes."""

import pytest

from thawlab.training.cache.filling import NotCachedError
from thawlab.training.cache.views import choose_views
from without_hydra import configured

ROOMY = {"train": 10, "val": 2, "row_bytes": 1000}


def count(*typed: str, passes: int) -> int:
    return choose_views(configured(*typed).cache, passes, **ROOMY).count


@pytest.mark.parametrize(("passes", "views"), [(3, 2), (4, 2), (5, 3), (6, 3), (8, 4), (19, 10), (300, 10)])
def test_there_is_a_view_for_every_two_passes_and_ten_at_most(passes, views):
    assert count(passes=passes) == views


def test_what_is_stored_is_said_with_how_to_store_more():
    chosen = choose_views(configured().cache, 5, **ROOMY)
    assert chosen.said == (
        "3 random views of each training image are stored for 5 passes, and used in turn; cache.views=all stores one "
        "for each pass"
    )


@pytest.mark.parametrize("passes", [1, 2])
def test_where_views_cost_what_they_save_none_is_stored_unless_one_asks_for_them(passes):
    with pytest.raises(NotCachedError, match="would cost what it saves; cache"):
        count(passes=passes)
    assert count("cache=require", passes=passes) == passes
    assert count("cache.views=all", passes=passes) == passes


def test_a_number_that_is_asked_for_is_taken():
    assert choose_views(configured("cache.views=3").cache, 30, **ROOMY).count == 3
    assert not choose_views(configured("cache.views=3").cache, 30, **ROOMY).said


def test_one_for_each_pass_is_stored_as_far_as_they_fit():
    assert count("cache.views=all", passes=30) == 30
    assert count("cache.views=all", "cache.max_gb=6.4e-5", passes=30) == 6
    with pytest.raises(NotCachedError, match="3 of 30 random views of each image fit into"):
        count("cache.views=all", "cache.max_gb=3.4e-5", passes=30)
    with pytest.raises(NotCachedError, match="1 of 3 random views"):
        count("cache.max_gb=1.4e-5", passes=5)
