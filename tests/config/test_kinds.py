"""What a setting is stands at its definition, and nowhere else."""

from typing import Annotated

import pytest
from pydantic import Field

from thawlab.config.head_grid import KEYS
from thawlab.config.kinds import Kind, Setting, settings
from thawlab.config.schema import Config, Derived, Section


def test_a_setting_that_does_not_say_what_it_is_is_refused_with_what_to_write():
    class Shared(Section):
        rate: float = Field(gt=0)

    class Whole(Section):
        known: Annotated[Shared, Kind.RESULT]
        unknown: Shared

    with pytest.raises(TypeError) as error:
        list(settings(Whole))
    assert str(error.value) == (
        "Shared.rate does not say what it is: write rate: Annotated[…, Kind.RESULT] if it decides what comes out, else "
        "another kind of thawlab/config/kinds.py"
    )


def test_a_setting_without_a_kind_has_that_of_its_section():
    class Inner(Section):
        folder: Annotated[str, Kind.PLACE]
        rate: float

    class Outer(Section):
        inner: Annotated[Inner, Kind.RESULT]

    found = {setting.key: setting.kind for setting in settings(Outer)}
    assert found == {"inner": Kind.RESULT, "inner.folder": Kind.PLACE, "inner.rate": Kind.RESULT}
    values = Outer(inner=Inner(folder="here", rate=1.0))
    assert list(settings(values)) == list(settings(Outer))


def test_every_setting_says_what_it_is():
    kinds: dict[Kind, list[str]] = {kind: [] for kind in Kind}
    for setting in settings(Config):
        kinds[setting.kind].append(setting.key)
    assert kinds[Kind.RUN] == ["trainer.name", "seed"]
    assert kinds[Kind.COMPUTING] == [
        "trainer.devices",
        "trainer.precision",
        "trainer.channels_last",
        "trainer.compile",
        "cache.compute",
    ]
    assert {"tracking", "cache.dir", "trainer.workers", "resume"} <= set(kinds[Kind.PLACE])
    assert {"backbone", "dataset", "strategy", "freeze", "trainer.select", "cache.views"} <= set(kinds[Kind.RESULT])
    assert all(isinstance(setting, Setting) for setting in settings(Derived, kind=Kind.RESULT))


def test_lists_of_heads_are_expanded_in_the_order_of_the_settings():
    assert KEYS == ("optimizer.lr", "optimizer.weight_decay", "label_smoothing", "seed")
