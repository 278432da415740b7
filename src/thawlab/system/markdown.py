"""Text from outside in Markdown: as it stands, and with nothing that Markdown or HTML would read as its own."""

import re

from thawlab.system.printable import one_line

_SIGNS = re.compile(r"[\\|*_`\[\]~$]")
_REFERENCES = {"&": "&amp;", "<": "&lt;"}
_TICKS = re.compile("`+")


def plain(text: str) -> str:
    """Text in one line, inside a sentence or a table's cell."""
    text = _SIGNS.sub(r"\\\g<0>", one_line(" ".join(text.split())))
    return re.sub("[&<]", lambda found: _REFERENCES[found.group()], text)


def code(text: str) -> str:
    """Text in one line, set as code: within as many backticks as it does not hold itself."""
    text = one_line(" ".join(text.split()))
    fence = "`" * (1 + max((len(each) for each in _TICKS.findall(text)), default=0))
    room = " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{fence}{room}{text}{room}{fence}"
