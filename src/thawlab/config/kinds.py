"""What a setting is: whether it decides the result or says where things go. Said once, where the setting is defined.

`epochs: Annotated[int, Kind.RESULT]`; on a section it holds for all of its settings that say nothing else. The hash of
a configuration, comparisons, resuming and repeating a run read it from there.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import BaseModel


class Kind(Enum):
    """What a setting decides; all but places are part of the configuration's hash."""

    RESULT = "what comes out: it tells configurations apart, and a run that is resumed keeps it"
    COMPUTING = "how it is computed, which shows in rounding: as a result, but a run may be resumed with another"
    RUN = "which of the runs of one configuration this is: those that differ in nothing else are compared as one"
    PLACE = "where things go and how fast, which no number shows: nothing is told apart by it"


class Mark(Enum):
    """What else is true of a setting."""

    PER_HEAD = "heads that are trained together may differ in it"
    SAME_TEST_IMAGES = "of runs too early to have a digest of their test images: it does not choose among these"


@dataclass(frozen=True)
class Earlier:
    """What was done without the setting, by versions that did not have it.

    Attributes:
        value: that does the same.
        hashed: whether the configuration's hash holds the setting at this value, too. Without it, runs of versions
            that did not have the setting keep their hash.
    """

    value: Any
    hashed: bool = True


@dataclass(frozen=True)
class MeantEarlier:
    """What a value stood for in versions that did not have another setting yet.

    Attributes:
        value: as it was recorded.
        now: what does the same today.
        without: the setting, with its section, that the earlier runs do not have.
    """

    value: Any
    now: Any
    without: str


@dataclass(frozen=True)
class ShownBy:
    """Whether the setting has any effect is seen in another recorded value."""

    recorded: str


@dataclass(frozen=True)
class Setting:
    """A setting, or a section of settings of one kind.

    Attributes:
        key: with dots.
        kind: its own or that of its section.
        marks: all that was said of it at its definition, pydantic's limits included.
    """

    key: str
    kind: Kind
    marks: tuple[Any, ...]

    def earlier(self) -> Earlier | None:
        """What was done before there was the setting, if that is not today's default."""
        return next((mark for mark in self.marks if isinstance(mark, Earlier)), None)


def settings(section: type[BaseModel] | BaseModel, prefix: str = "", kind: Kind | None = None) -> Iterator[Setting]:
    """All settings below a section, and the sections whose settings have a kind in common.

    Args:
        section: with the settings of its dataset and its strategy only where it is one that has values.
        prefix: of the keys, such as `dataset.`.
        kind: of the settings that say nothing else.

    Raises:
        TypeError: a setting does not say what it is.
    """
    model = section if isinstance(section, type) else type(section)
    for name, field in model.model_fields.items():
        own = next((mark for mark in field.metadata if isinstance(mark, Kind)), kind)
        part: Any = field.annotation if isinstance(section, type) else getattr(section, name)
        is_section = isinstance(part, BaseModel) or (isinstance(part, type) and issubclass(part, BaseModel))
        if own is not None:
            yield Setting(prefix + name, own, tuple(field.metadata))
        elif not is_section:
            raise TypeError(
                f"{model.__name__}.{name} does not say what it is: write {name}: Annotated[…, Kind.RESULT] if it "
                "decides what comes out, else another kind of thawlab/config/kinds.py"
            )
        if is_section:
            yield from settings(part, f"{prefix}{name}.", own)


def is_below(key: str, names: Collection[str]) -> bool:
    """Whether a key is one of these or lies in one of these sections."""
    return any(key == name or key.startswith(f"{name}.") for name in names)
