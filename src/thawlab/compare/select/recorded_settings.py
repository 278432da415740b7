"""Settings by the names that runs record them under: what they are, and what versions did that had no such setting."""

from collections.abc import Iterator

from thawlab.config.kinds import Kind, Mark, Setting, ShownBy, settings
from thawlab.config.schema import Config, Derived
from thawlab.config.small_data import rule_for
from thawlab.data.sources.contract import SOURCES
from thawlab.tracking.select_runs import RunRecord


def _known() -> Iterator[Setting]:
    yield from settings(Config)
    yield from settings(Derived, kind=Kind.RESULT)
    for source in map(SOURCES.load, SOURCES.names()):
        yield from settings(source.Settings, "dataset.", Kind.RESULT)


_KNOWN = tuple(_known())
# What does not tell configurations apart.
IGNORED = tuple(setting.key for setting in _KNOWN if setting.kind in (Kind.RUN, Kind.PLACE))
# What shows in another value, if it has an effect at all, and in which.
SHOWN_BY = {setting.key: mark.recorded for setting in _KNOWN for mark in setting.marks if isinstance(mark, ShownBy)}
SAME_TEST_IMAGES = frozenset(setting.key for setting in _KNOWN if Mark.SAME_TEST_IMAGES in setting.marks)
_EARLIER = {setting.key: str(earlier.value) for setting in _KNOWN if (earlier := setting.earlier())}
SELECT = "trainer.select"


def value(run: RunRecord, key: str) -> str | None:
    """The value of a setting, of a run that has no such setting what it did without; None if that is not known."""
    return run.params.get(key, _EARLIER.get(key))


def epoch_rule(run: RunRecord) -> str | None:
    """What `trainer.select` came to in a run, which `auto` alone does not say."""
    images = run.tags.get("images.val", "")
    if "steps" not in run.tags:  # a version without the setting; or no step was taken, so that nothing was to choose
        return _EARLIER[SELECT]
    return rule_for("auto", int(images)) if value(run, SELECT) == "auto" and images.isdecimal() else value(run, SELECT)
