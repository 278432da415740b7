"""Passwords and keys in addresses, kept out of whatever leaves the process: terminal, store, report."""

import re

_HIDDEN = "***"

# `scheme://user:password@host`, or a key in the place of both. A password may hold `/` and `@`, as databases allow;
# what looks like a port is none.
_LOGIN = re.compile(
    r"(?P<scheme>\b[A-Za-z][\w+.-]*://)(?:(?![^\s/@:]*:\d{1,5}(?:[/?#\s'\",;)\]]|$))[^\s/@:\"'`<>]*:[^\s\"`<>]*|[^\s/@:\"'`<>]+)@"
)
# `?token=…`, `&sslpassword=…`, `X-Amz-Signature=…` of an address.
_QUERY = re.compile(
    r"(?P<name>[?&;#][\w.%-]*?(?:token|passw(?:or)?d|passphrase|pwd|secret|api[_-]?key|access[_-]?key|key[_-]?id|"
    r"credential|signature|\bsig|\bauth(?:orization)?|\bkey))=[^&\s\"'`<>#;,]+",
    re.IGNORECASE,
)
# An address that was mistyped, such as `uri=user:password@host`, or `http:/` in front of it.
_WITHOUT_SCHEME = re.compile(
    r"(?P<name>\b(?:MLFLOW_TRACKING_)?uri=)(?![\w+.-]+://)[^\s:/@]+:[^\s\"`<>]*@", re.IGNORECASE
)


def redacted(text: str) -> str:
    """The text with `***` where an address in it has a login or a key; the rest of the address stays.

    Whoever runs a command needs the login, and hands it over by the command line or the environment. Nobody who reads
    what a run left behind does.
    """
    if "://" not in text and "uri=" not in text.lower():
        return text
    text = _WITHOUT_SCHEME.sub(rf"\g<name>{_HIDDEN}@", _LOGIN.sub(rf"\g<scheme>{_HIDDEN}@", text))
    return _QUERY.sub(rf"\g<name>={_HIDDEN}", text)
