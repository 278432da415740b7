"""Where Hydra's grammar cannot read an argument, and what to type in its place."""

import re
from collections.abc import Callable
from typing import Any

from antlr4.error.ErrorListener import ErrorListener
from hydra.grammar.gen.OverrideLexer import CommonTokenStream, InputStream, OverrideLexer
from hydra.grammar.gen.OverrideParser import OverrideParser

from thawlab.launch.quoting import shell, typed_literal


def unreadable(word: str, reason: str) -> str:
    """Where an argument cannot be read, and what to type."""
    key, _, value = word.partition("=")
    function = re.search(r"Unknown function '(\w+)'", reason)
    place = len(key) + 1 if function else _place(word)
    if function:
        told = f"there is no function {function[1]}; a sweep can have choice(), range() and glob()"
    elif "while evaluating" in reason:
        told = reason.partition("while evaluating ")[2].splitlines()[0]
    elif place < len(key):
        told = "this is no key; keys are words with dots between them, such as optimizer.lr=1e-3"
    else:
        told = _advice(key, value)
    return f"{word}: cannot be read from the mark on: {told}\n{word}\n{' ' * place}^"


def _advice(key: str, value: str) -> str:
    stripped = value.strip().strip("(){}[];,")
    checks: list[tuple[Callable[[str], Any], str]] = [
        (lambda text: re.search(r"\s\w[\w.]*=", text), f"each setting is an argument of its own: {key}={value}"),
        (lambda text: text.endswith(","), f"nothing stands after the comma: {shell(key + '=' + value.rstrip(', '))}"),
        (lambda text: re.search(r",\s*,|^\s*,", text), "nothing stands before a comma: " + _without_gaps(key, value)),
        (lambda text: text.count("[") > text.count("]"), f"a [ is not closed: {shell(f'{key}={value}]')}"),
        (lambda text: text.count("{") > text.count("}"), f"a {{ is not closed: {shell(f'{key}={value}' + '}')}"),
        (lambda text: text.count("(") > text.count(")"), f"a ( is not closed: {shell(f'{key}={value})')}"),
        (lambda text: text.count('"') % 2 or text.count("'") % 2, "a quote is not closed"),
        (lambda _: re.fullmatch(r"[\w.+-]+(,[\w.+-]+)*", stripped), f"write {key}={stripped}"),
    ]
    return next((told for holds, told in checks if holds(value)), f"text with such signs: {typed_literal(key, value)}")


def _without_gaps(key: str, value: str) -> str:
    return shell(f"{key}={','.join(filter(None, (each.strip() for each in value.split(','))))}")


class _FirstError(ErrorListener):
    """Keeps the column of the first place that cannot be read."""

    def __init__(self) -> None:
        super().__init__()
        self.column: int | None = None

    def syntaxError(self, recognizer: Any, offendingSymbol: Any, line: int, column: int, msg: str, e: Any) -> None:  # noqa: N802, N803
        if self.column is None:
            self.column = column


def _place(word: str) -> int:
    """The index of the first sign that Hydra's grammar cannot read."""
    listener = _FirstError()
    lexer = OverrideLexer(InputStream(word))
    lexer.removeErrorListeners()
    lexer.addErrorListener(listener)
    parser = OverrideParser(CommonTokenStream(lexer))
    parser.removeErrorListeners()
    parser.addErrorListener(listener)
    parser.override()
    return listener.column or 0
