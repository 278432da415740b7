"""What every command does before anything else: whose code is imported, and what terminals can show."""

import codecs
import os
import re
import sys
import traceback
import warnings
from io import TextIOWrapper
from types import TracebackType

from thawlab.system.printable import visible
from thawlab.system.redaction import redacted

_SAFE_PATH = "PYTHONSAFEPATH"
_HANDLER = "thawlab.plain"
# What the commands print themselves, for terminals that cannot show it.
_PLAIN = {
    **{"▶": ">", "✓": "+", "✗": "x", "★": "*", "◆": "#", "≈": "~", "→": "->", "×": "x", "±": "+-", "·": "."},
    **{"─": "-", "━": "-", "│": "|"},
    **{"–": "-", "—": "-", "−": "-", "…": "...", "≤": "<=", "≥": ">="},
    **{"‘": "'", "’": "'", "“": '"', "”": '"'},
}


def prepare() -> None:
    """Keep the working folder's files from being imported, and output from failing at a sign.

    The folder may come from somebody else, with a file that is called as a module is. What the user has set stays.
    """
    os.environ.setdefault(_SAFE_PATH, "1")  # for all processes that are started: Python's, torchrun's, MLflow's
    _let_dependencies_warn()
    codecs.register_error(_HANDLER, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)
    sys.excepthook = _show_traceback


def _let_dependencies_warn() -> None:
    """Show what `PYTHONWARNINGS=error` makes an error of: a remark of some package ends no training."""
    if "PYTHONWARNINGS" in os.environ:  # for all processes that are started
        asked = os.environ["PYTHONWARNINGS"]
        os.environ["PYTHONWARNINGS"] = re.sub(r"(^|,)\s*e[a-z]*", r"\1default", asked)
    if any(action == "error" for action, *_ in warnings.filters):
        warnings.simplefilter("default")


def shown(text: str) -> str:
    """Text from anywhere as a terminal may get it: without passwords, and without orders to the terminal."""
    return visible(redacted(text))


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_spelled(sign) for sign in error.object[error.start : error.end]), error.end


def _spelled(sign: str) -> str:
    if sign in _PLAIN:
        return _PLAIN[sign]
    code = ord(sign)
    if 0x2800 <= code <= 0x28FF:  # the wheel that turns while something is done
        return "*"
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return sign.encode("ascii", "backslashreplace").decode("ascii")


def _show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(shown("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)
