"""Credentials that this process was given in URLs, and texts without them."""

from __future__ import annotations

import base64
import re
from urllib.parse import parse_qsl, quote, unquote

HIDDEN = "***"
PARAMETER = re.compile(r"pass|pwd|token|secret|key", re.IGNORECASE)  # names of a URL's parameters that hold one
USER_INFO = re.compile(r"(\b[a-z][\w+.-]*://)([^\s/@:]*):\S*@", re.IGNORECASE)

_known: set[str] = set()


def remember(url: str) -> None:
    """Take note of a URL's credentials: as they stand there, as they are meant, and as a request carries them."""
    user_info = url.partition("://")[2].rpartition("@")[0]
    user, separator, password = user_info.partition(":")
    found = [password if separator else user if url.startswith("http") else ""]  # a token may stand alone
    found += [value for name, value in parse_qsl(url.partition("?")[2]) if PARAMETER.search(name)]
    if user_info:
        _known.add(base64.b64encode(unquote(user_info).encode()).decode())
    for secret in filter(None, found):
        _known.update((secret, unquote(secret), quote(secret, safe=""), quote(unquote(secret), safe="")))


def masked(text: object) -> str:
    """A text without the credentials of any URL in it, nor any that are remembered."""
    shown = USER_INFO.sub(rf"\1\2:{HIDDEN}@", str(text))
    for secret in sorted(_known, key=len, reverse=True):
        shown = shown.replace(secret, HIDDEN)
    return shown
