"""The words of a command line: Hydra's options, settings KEY=VALUE, and what was meant to be one.

Hydra's own answers to a wrong word are the usage of its options or the words of its parser. Here each is said as what
was typed and what to type.
"""

import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from thawlab.config.nearest import nearest
from thawlab.config.schema import ConfigError

# Hydra's options; those with a value, with the values that can be given (none: any).
_SWITCHES = ("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m")
_SWITCHES += ("--shell-completion", "-sc")
_SHOWN, _ABOUT = ("job", "hydra", "all"), ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
_WITH_VALUE: dict[str, tuple[str, ...]] = {"--cfg": _SHOWN, "-c": _SHOWN, "--package": (), "-p": ()}
_WITH_VALUE |= dict.fromkeys(("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"), ())
_WITH_VALUE |= {"--experimental-rerun": ()}
_MAYBE_VALUE = {"--info": _ABOUT, "-i": _ABOUT}
_ALL = (*_SWITCHES, *_WITH_VALUE, *_MAYBE_VALUE)
_TOLD = "-m for a sweep, --cfg job to see all settings, --config-dir FOLDER, --help"


@dataclass(frozen=True)
class Words:
    """A command line, taken apart.

    Attributes:
        options: Hydra's own, each followed by its value, if it has one.
        settings: KEY=VALUE, +KEY=VALUE or ~KEY, in their order.
    """

    options: tuple[str, ...]
    settings: tuple[str, ...]

    @property
    def multirun(self) -> bool:
        """Whether a sweep was asked for."""
        return bool({"-m", "--multirun"} & set(self.options))


def split(arguments: Sequence[str], known: Callable[[], Collection[str]]) -> Words:
    """Take a command line apart; options may stand anywhere.

    Args:
        arguments: as typed.
        known: all keys that there are; asked for only if something is wrong.

    Raises:
        ConfigError: a word is neither an option nor a setting; a line for each mistake.
    """
    options: list[str] = []
    words: list[str] = []
    mistakes: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not _is_option(word):
            words.append(word)
            continue
        name, _, value = word.partition("=")
        name = _whole(name)
        if name not in _ALL:
            mistakes.append(_no_option(word, rest, known()))
            continue
        options.append(word.replace(word.partition("=")[0], name, 1))
        allowed = _WITH_VALUE.get(name)
        if allowed is not None and "=" not in word:
            value = rest.pop(0) if rest else ""
            options.append(value)
        if name in _MAYBE_VALUE and "=" not in word and rest and rest[0] in _ABOUT:
            options.append(rest.pop(0))
        if allowed is not None and (not value or (allowed and value not in allowed)):
            mistakes.append(f"{name} {value}".rstrip() + f": use {name} {' or '.join(allowed) or 'VALUE'}")
    mistakes += _mistakes(words, known)
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return Words(tuple(options), tuple(words))


def _is_option(word: str) -> bool:
    return word.startswith("-") and word.lstrip("-")[:1].isalpha()


def _whole(name: str) -> str:
    """A long option that was cut short, as Hydra allows."""
    found = [each for each in _ALL if each.startswith(name)] if name.startswith("--") else []
    return found[0] if len(found) == 1 and name not in _ALL else name


def _no_option(word: str, rest: list[str], known: Collection[str]) -> str:
    """What is said of `--freeze 4` and the like; takes the value from the words after it."""
    key, equals, value = word.lstrip("-").partition("=")
    dotted = key if key in known else key.replace("-", "_")
    if not equals and dotted in known and rest and "=" not in rest[0] and not _is_option(rest[0]):
        value = rest.pop(0)
        return f"{word} {value}: a setting is written without dashes and with a =: {_shell(f'{dotted}={value}')}"
    if equals or dotted in known:
        near = [dotted] if dotted in known else nearest(dotted, known, 1)
        typed = f"{(near or [key])[0]}={value if equals else '…'}"
        return f"{word}: a setting is written without dashes: {_shell(typed) if equals else typed}"
    near = nearest(word, [each for each in _ALL if each.startswith("--")], 1) or nearest(key, known, 1)
    hint = f"; nearest: {near[0]}" if near else ""
    return f"{word}: no such option{hint}; there are {_TOLD}; settings are written KEY=VALUE"


def _mistakes(words: Sequence[str], known: Callable[[], Collection[str]]) -> Iterator[str]:
    """What is wrong with the words that are no options, from the left to the right."""
    place = 0
    while place < len(words):
        word, after = words[place], words[place + 1 :]
        told, used = _mistake(word, after, words[place - 1] if place else "", known)
        if told:
            yield told
        place += used


def _mistake(word: str, after: Sequence[str], before: str, known: Callable[[], Collection[str]]) -> tuple[str, int]:
    """What is wrong with a word, if anything, and how many words that takes in."""
    if "=" in word.lstrip("="):
        count = _broken_at_blanks(word, after)
        if not count:
            return "", 1
        whole = [word, *after[:count]]
        if word.endswith("=") or word.endswith(","):
            return f"{' '.join(whole)}: write it without blanks: {_shell(''.join(whole))}", 1 + count
        return f"{' '.join(whole)}: it has blanks, so put quotes around it: {_shell(' '.join(whole))}", 1 + count
    if word.startswith("~"):
        return "", 1
    if word.startswith("="):
        return f"{word}: expected KEY=VALUE, such as freeze=4", 1
    if after and after[0].startswith("="):
        count = 2 if after[0] == "=" and len(after) > 1 else 1
        whole = [word, *after[:count]]
        return f"{' '.join(whole)}: write it without blanks: {_shell(''.join(whole))}", 1 + count
    return _no_setting(word, after, before, known())


def _no_setting(word: str, after: Sequence[str], before: str, known: Collection[str]) -> tuple[str, int]:
    """What is said of a word without a =."""
    key, colon, value = word.partition(":")
    if colon and key in known:
        whole = [word, *after[:1]] if not value else [word]
        return f"{' '.join(whole)}: a setting is written with a =: {_shell(f'{key}={value or whole[-1]}')}", len(whole)
    if word in known:
        if after and "=" not in after[0] and not after[0].startswith("~") and after[0] not in known:
            return f"{word} {after[0]}: write it with a = and without blanks: {_shell(f'{word}={after[0]}')}", 2
        return f"{word}: has no value; give one as {word}=…", 1
    told = f"{word or shlex.quote(word)}: expected KEY=VALUE, such as freeze=4"
    if Path(word).is_dir() and word:
        return f"{told}; for the images in this folder: dataset=folder {_shell(f'dataset.root={word}')}", 1
    if "=" in before:
        return f"{told}; if it belongs to {before}, put quotes around both: {_shell(f'{before} {word}')}", 1
    near = nearest(word, known, 1)
    return told + (f"; nearest: {near[0]}=…" if near else ""), 1


def _broken_at_blanks(word: str, after: Sequence[str]) -> int:
    """How many of the words after a setting were meant to belong to it, as its own end tells."""
    if word.endswith("="):
        return 1 if after and "=" not in after[0] and not after[0].startswith("~") else 0
    if _open_brackets(word) > 0:
        for count in range(1, len(after) + 1):
            if _open_brackets(" ".join([word, *after[:count]])) <= 0:
                return count
        return 0
    count = 0
    while count < len(after) and [word, *after][count].endswith(",") and "=" not in after[count]:
        count += 1
    return count


def _open_brackets(text: str) -> int:
    return sum((each in "[{(") - (each in "]})") for each in text)


def _shell(setting: str) -> str:
    """A setting as bash and zsh take it."""
    return shlex.quote(setting) if set(setting) & set("[]{}()*?'\"\\$&;|<>#~! \t`") else setting
