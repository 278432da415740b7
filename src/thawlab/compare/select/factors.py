"""What varies between runs, by the names that users type; and what all of them share."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from thawlab.compare.select import recorded_settings
from thawlab.compare.select.recorded_settings import IGNORED, SELECT, SHOWN_BY
from thawlab.config.kinds import is_below
from thawlab.config.nearest import nearest
from thawlab.config.schema import ConfigError, Derived
from thawlab.tracking.select_runs import RunRecord

# These follow from the settings. Where they do not, something else has changed, and such runs must not be pooled.
_DERIVED = (*Derived.model_fields, "dataset.root")
# What a caption states, in its order; also which of two settings that vary together gives both its name.
TOLD = ("backbone.name", "weights", "dataset.name", "dataset.root", "strategy.name", "freeze", "transfer", "epochs")
TOLD += ("batch_size", "image_size", "optimizer.name", "optimizer.lr", "optimizer.weight_decay", "scheduler.name")
TOLD += ("augment.name", "label_smoothing", "bn", "seed")


def caption(constants: Mapping[str, str], between: str = ", ") -> str:
    """What a caption states of the settings that all runs share; the others are in the report."""
    return between.join(f"{key}={value}" for key, value in constants.items() if key in TOLD)


class Settings:
    """The settings of some runs, column by column."""

    def __init__(self, records: Sequence[RunRecord]) -> None:
        self.records = records
        keys = dict.fromkeys(key for record in records for key in record.params)
        have_select = sum(SELECT in each.params for each in records)
        self._some_lack_select = 0 < have_select < len(records)
        self.columns: dict[str, list[str | None]] = {key: [self.value(each, key) for each in records] for key in keys}
        self.typed = list(_typed(records))
        self.values = {key: set(column) for key, column in self.columns.items()}

    def value(self, run: RunRecord, key: str) -> str | None:
        """What a run did, in words that runs of all versions share."""
        if key == SELECT and self._some_lack_select:
            return recorded_settings.epoch_rule(run)
        return recorded_settings.value(run, key)

    def varying(self) -> list[str]:
        """The settings that vary and count, those that were typed first, without what follows from others."""
        # A factor of its own only where it was typed.
        shown = {key for key, other in SHOWN_BY.items() if other in self.columns and key not in self.typed}
        left_out = (*IGNORED, *_DERIVED, *shown)
        base = [key for key in self.columns if not is_below(key, left_out) and len(self.values[key]) > 1]
        chosen = [key for key in self.typed if key in base]
        for key in sorted(set(base) - set(chosen), key=_preference):
            if not self._follows(key, chosen):
                chosen.append(key)
        for key, column in self._derived():
            known = [place for place, value in enumerate(column) if value is not None]
            if not self._determined(column, chosen, known):
                self.columns[key], self.values[key] = column, set(column)
                chosen.append(key)
        return chosen

    def constants(self) -> dict[str, str]:
        """What all runs share, first what a caption would state."""
        shared = {key: column[0] for key, column in self.columns.items() if len(self.values[key]) == 1}
        told = [key for key in TOLD if key in shared]
        rest = [key for key in shared if key not in told and not is_below(key, IGNORED)]
        return {key: str(shared[key]) for key in (*told, *rest)}

    def resolve(self, names: Sequence[str]) -> list[str]:
        """The settings that the user names: `freeze`, `backbone` or `backbone.name`, `lr` or `optimizer.lr`.

        Raises:
            ConfigError: there are none such; a line for each.
        """
        found, mistakes = [], []
        for name in names:
            last = [key for key in self.columns if key.rpartition(".")[2] == name]
            if name in self.columns or f"{name}.name" in self.columns:
                found.append(name if name in self.columns else f"{name}.name")
            elif len(last) == 1:
                found.append(last[0])
            else:
                near = last or nearest(name, self.columns) or self.varying()
                what = "which of these?" if last else "no run has such a setting; use"
                mistakes.append(f"by={name}: {what} {', '.join(near) or 'leave by out'}")
        if mistakes:
            raise ConfigError("\n".join(mistakes))
        return list(dict.fromkeys(found))

    def order(self, key: str) -> Callable[[str | None], tuple[int, float, float, str]]:
        """Sorts the values of a setting: numbers as numbers, depths by depth, what lacks it last."""
        depths = self._depths(key)

        def place(value: str | None) -> tuple[int, float, float, str]:
            if value is None:
                return 3, 0.0, 0.0, ""
            number = _number(value)
            if value in depths or number is not None:
                own = math.inf if number is None else number
                return 1, depths.get(value, own), own, value
            return (0 if value in ("null", "None", "none") else 2), 0.0, 0.0, value.lower()

        return place

    def _depths(self, key: str) -> dict[str, float]:
        """The depth that each way to write it means; on several networks, the deepest."""
        if key not in ("freeze", "transfer"):
            return {}
        found = {"none": -1.0, "stem": 0.0, "all": math.inf}
        kept: dict[str, float] = {}
        for value, depth in zip(self.columns[key], self.columns.get(f"{key}_depth", ()), strict=False):
            if value is not None and depth is not None and (number := _number(depth)) is not None:
                kept[value] = max(number, kept.get(value, number))
        return found | kept

    def _follows(self, key: str, chosen: Sequence[str]) -> bool:
        column, everywhere = self.columns[key], range(len(self.records))
        # What was typed explains the rest. Where that is not known, only what a group of settings sets together is left
        # out: in a random search every setting would follow from any other.
        if any(name in self.typed for name in chosen):
            return self._determined(column, chosen, everywhere)
        group = key.rpartition(".")[0]
        names = [name for name in chosen if group and name == f"{group}.name"]
        return bool(names) and self._determined(column, names, everywhere)

    def _determined(self, column: Sequence[str | None], chosen: Sequence[str], places: Iterable[int]) -> bool:
        known: dict[tuple[str | None, ...], str | None] = {}
        columns = [self.columns[key] for key in chosen]
        return all(
            known.setdefault(tuple(each[place] for each in columns), column[place]) == column[place] for place in places
        )

    def _derived(self) -> Iterator[tuple[str, list[str | None]]]:
        data = [each.tags.get("dataset_digest") for each in self.records]
        for key in [key for key in self.columns if is_below(key, _DERIVED)]:
            # The same images may lie elsewhere on another machine.
            if key != "dataset.root" or len(set(data) - {None}) > 1:
                yield key, self.columns[key]
        # A network that starts from random weights has others for each seed.
        yield (
            "weights_digest",
            [each.tags.get("weights_digest") if _pretrained(each) else None for each in self.records],
        )
        yield "dataset_digest", data


def _pretrained(record: RunRecord) -> bool:
    return record.params.get("backbone.pretrained") == "true" or record.params.get(
        "backbone.checkpoint_path", "null"
    ) not in ("null", "None", "")


def _typed(records: Iterable[RunRecord]) -> dict[str, None]:
    """The keys that users gave, in their order; a group by its name's key."""
    typed: dict[str, None] = {}
    for text in dict.fromkeys(each.tags.get("overrides", "") for each in records):
        for line in text.split("\n"):
            key = line.lstrip("+~").partition("=")[0]
            typed[key] = None
            typed[f"{key}.name"] = None
    return typed


def _preference(key: str) -> tuple[int, bool, int, str]:
    return (TOLD.index(key) if key in TOLD else len(TOLD)), not key.endswith(".name"), len(key), key


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def factors_of(row: Mapping[str, str | None]) -> dict[str, str]:
    """Those that have a value."""
    return {key: value for key, value in row.items() if value is not None}
