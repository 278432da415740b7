"""What was typed, as Hydra reads it; or what is wrong with it, where, and what to type.

Hydra's grammar reads `dataset.root=my photos (1)` as a mistake and `experiment_name=2024` as a number. Where a key
takes text and nothing else, what was typed is handed on as that text, in quotes; whatever could also mean something
else is refused with both ways to write it.
"""

import re
import sys
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, QuotedString, ValueType
from hydra.errors import HydraException

from thawlab.config import head_grid
from thawlab.config.schema import ConfigError
from thawlab.launch import command_line
from thawlab.launch.grammar_errors import unreadable
from thawlab.launch.known_keys import groups, known_keys, text_keys
from thawlab.launch.quoting import literal, shell, split_at_commas, typed_literal
from thawlab.system.surroundings import shown

# May be empty: an unset variable in a script means the local store there.
_MAY_BE_EMPTY = ("tracking.uri",)
_LISTS = (*head_grid.KEYS, "cache.prefill")


def read(arguments: Sequence[str]) -> list[str]:
    """The arguments for Hydra, options first; notes go to the terminal.

    Raises:
        ConfigError: a line or more for each mistake.
    """
    words = command_line.split(arguments, known_keys)
    reader = _Reader(words.multirun)
    mistakes: list[str] = []
    settings: dict[str, str] = {}
    for word in words.settings:
        try:
            setting = reader.checked(word)
            key = setting.partition("=")[0].lstrip("+")
            if key in settings:
                reader.check_again(settings[key], setting)
            settings[key] = setting
        except ConfigError as error:
            mistakes.append(str(error))
    if words.multirun and not words.settings:
        mistakes.append("-m: a sweep needs values to go through, such as: -m freeze=0,2,4 seed=0,1")
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return [*words.options, *settings.values()]


class _Reader:
    """Reads one setting after the other."""

    def __init__(self, multirun: bool) -> None:
        self._multirun = multirun
        self._parser = OverridesParser.create()
        self._known, self._groups, self._text_keys = known_keys(), groups(), text_keys()

    def checked(self, word: str) -> str:
        """A setting as Hydra is to read it.

        Raises:
            ConfigError: it means nothing, or more than one thing.
        """
        if word.startswith("~"):
            return _removal(word)
        head, _, value = word.partition("=")
        key = head.lstrip("+")
        self._check_form(word, head, value)
        if key in self._text_keys:
            return _once(f"{head}={self._text(key, value, self._multirun)}", self._parser)
        if key in self._groups:
            _check_choice(word, key, value)
        parsed = self._parsed(word)
        if parsed.is_sweep_override():
            if not self._multirun:
                raise ConfigError(self._several(key, value))
            if not parsed.is_discrete_sweep():
                raise ConfigError(
                    f"{word}: an interval has no values to go through; use range(), or values with commas"
                )
            return _once(word, self._parser)
        named = isinstance(parsed.value(), str | QuotedString | None)
        return f"{head}={literal(value)}" if key in self._groups and not named else word

    def check_again(self, before: str, word: str) -> None:
        """Tell of a key that was given before.

        Raises:
            ConfigError: with several values, which would be lost.
        """
        key = word.partition("=")[0]
        if not word.startswith("~") and self._parser.parse_override(before).is_sweep_override():
            values = [*split_at_commas(before.partition("=")[2]), *split_at_commas(word.partition("=")[2])]
            raise ConfigError(
                f"{before} {word}: {key} is given twice, and Hydra would use the last alone; write it once, such as "
                f"{shell(key + '=' + ','.join(dict.fromkeys(values)))}"
            )
        if before != word:
            _note(f"{key} is given twice; the last counts: {word}")

    def _check_form(self, word: str, head: str, value: str) -> None:
        """Refuse what is written otherwise than KEY=VALUE."""
        key = head.strip().lstrip("+")
        if head != head.strip():
            raise ConfigError(f"{word}: write it without blanks: {shell(f'{head.strip()}={value.strip()}')}")
        if head.startswith("+") and not head.startswith("++") and key in self._known:
            raise ConfigError(f"{word}: no + is needed: {shell(f'{key}={value}')}")
        if value.startswith("="):
            other = f"; for a text that begins with it: {typed_literal(key, value)}" if key in self._text_keys else ""
            raise ConfigError(f"{word}: one = is enough: {shell(key + '=' + value.lstrip('='))}{other}")
        if not value.strip() and key not in _MAY_BE_EMPTY and not key.startswith("hydra"):
            raise ConfigError(f"{word}: nothing stands after the =; give a value, {key}=…, or leave it out")

    def _text(self, key: str, value: str, multirun: bool) -> str:
        """The value of a key that takes text: in quotes, where Hydra would read anything else."""
        parts = split_at_commas(value)
        try:
            parsed = self._parser.parse_override(f"{key}={value}")
        except HydraException:
            if len(parts) == 1:
                return literal(value)
            if multirun and all(parts):
                return ",".join(self._text(key, each, False) for each in parts)
            raise ConfigError(self._several(key, value)) from None
        if parsed.is_sweep_override():
            if not multirun:
                raise ConfigError(self._several(key, value))
            simple = parsed.value_type is ValueType.SIMPLE_CHOICE_SWEEP
            return ",".join(self._text(key, each, False) for each in parts) if simple else value
        found = parsed.value()
        as_it_is = isinstance(found, str | QuotedString) or type(found) in self._text_keys[key]
        return value if as_it_is else literal(value)

    def _parsed(self, word: str) -> Override:
        try:
            return self._parser.parse_override(word)
        except HydraException as error:
            raise ConfigError(unreadable(word, str(error))) from error

    def _several(self, key: str, value: str) -> str:
        """What is said of several values without a sweep."""
        filled = ",".join(filter(None, split_at_commas(value)))
        if "," in filled or "(" in filled:
            ways = [f"several values need a sweep: python train.py -m {shell(f'{key}={filled}')}"]
        else:
            ways = [f"a comma with nothing beside it: {shell(f'{key}={filled}')}"]
        if key in self._text_keys:
            ways.append(f"if it belongs to the text, quote it: {typed_literal(key, value)}")
        if key in _LISTS and "(" not in value:
            ways.append(f"as a list: {shell(f'{key}=[{filled}]')}")
        if re.fullmatch(r"0,\d+", value):
            ways.append(f"a decimal point is a point: {key}={value.replace(',', '.')}")
        return f"{key}={value}: {'; '.join(ways)}"


def _removal(word: str) -> str:
    key = word.lstrip("~").partition("=")[0]
    if key.startswith(("optimizer.options.", "hydra")):
        return word
    home = "" if key else "; a folder in your home: dataset.root=~/photos"
    raise ConfigError(f"{word}: a setting cannot be taken away; give it another value, {key or 'KEY'}=…{home}")


def _check_choice(word: str, group: str, value: str) -> None:
    """Refuse a path in the place of a name, which Hydra would take apart at its slashes."""
    if "," in value or value.startswith(("[", "{", "'", '"')):
        return
    if group == "dataset" and re.search(r"[/\\~ ]", value):
        raise ConfigError(f"{word}: no such dataset; for your images: dataset=folder {shell(f'dataset.root={value}')}")
    if group == "backbone" and re.search(r"[/\\~]|\.(pth|pt|ckpt|bin|safetensors)\b", value):
        raise ConfigError(
            f"{word}: a backbone is named as timm does; for weights of yours: backbone=NAME "
            f"{shell(f'backbone.checkpoint_path={value}')}"
        )


def _once(word: str, parser: OverridesParser) -> str:
    """A setting without those of its values that stand there before.

    Raises:
        ConfigError: they are in a function's brackets.
    """
    parsed = parser.parse_override(word)
    if not parsed.is_discrete_sweep() or isinstance(parsed.value(), Glob):
        return word
    key, _, value = word.partition("=")
    values = [str(each) for each in parsed.sweep_string_iterator()]
    if len(set(values)) == len(values):
        return word
    twice = ", ".join(dict.fromkeys(each for each in values if values.count(each) > 1))
    if parsed.value_type is not ValueType.SIMPLE_CHOICE_SWEEP:
        raise ConfigError(f"{word}: {twice} is there twice; name each value once")
    _note(f"{word}: {twice} is there twice, and is trained once")
    kept = dict(zip(reversed(values), reversed(split_at_commas(value)), strict=True))
    return f"{key}={','.join(kept[each] for each in dict.fromkeys(values))}"


def _note(text: str) -> None:
    print(shown(f"note: {text}"), file=sys.stderr)
