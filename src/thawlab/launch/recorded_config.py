"""The configuration of a recorded run, with the keys that the version which recorded it did not have."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import yaml

from thawlab.config.job import flat
from thawlab.config.kinds import Kind, MeantEarlier, Setting, settings
from thawlab.config.schema import Config
from thawlab.launch.parsing import OPEN
from thawlab.launch.search_path import conf_dir


def completed(raw: Mapping[str, object]) -> dict[str, object]:
    """The recorded settings and, for each key that they lack, the value that does what was done without it.

    Args:
        raw: plain nested values, as a run keeps them in `config/config.yaml`.
    """
    known = [*settings(Config), *(setting for group in OPEN for setting in _own_settings(group, raw.get(group)))]
    raw = _said_today(raw, known)
    then = {setting.key: earlier.value for setting in known if (earlier := setting.earlier())}
    content = {**_file("config"), **raw}
    for group, section in raw.items():
        if isinstance(section, Mapping):
            defaults = _file(f"{group}/{section.get('name')}")
            content[group] = {key: then.get(f"{group}.{key}", value) for key, value in defaults.items()} | {**section}
    return content


def _said_today(raw: Mapping[str, object], known: Sequence[Setting]) -> dict[str, object]:
    """The same with values whose meaning has changed since replaced by what does the same today."""
    recorded, content = flat(raw), dict(raw)
    for setting in known:
        for mark in setting.marks:
            earlier = isinstance(mark, MeantEarlier) and mark.without not in recorded
            if earlier and recorded.get(setting.key) == mark.value:
                group, _, name = setting.key.partition(".")
                content[group] = {**cast("dict[str, object]", content[group]), name: mark.now}
    return content


def _own_settings(group: str, section: object) -> Iterator[Setting]:
    """Those of the data set or the strategy that was chosen; none where it is not there any more."""
    name = section.get("name") if isinstance(section, Mapping) else None
    if name in OPEN[group].names():
        yield from settings(OPEN[group].load(name).Settings, f"{group}.", Kind.RESULT)


def _file(name: str) -> dict[str, Any]:
    """The values in a file of conf/; none if there is no such file, as for a backbone by timm's name."""
    path = conf_dir() / f"{name}.yaml"
    if not path.is_file():
        return {}
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {key: value for key, value in values.items() if key not in ("defaults", "hydra")}
