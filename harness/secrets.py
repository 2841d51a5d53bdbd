"""Credentials that this process was given in URLs, and texts without them."""

from __future__ import annotations

import base64
import re
from urllib.parse import parse_qsl, quote, unquote

HIDDEN = "***"
PARAMETER = re.compile(r"pass|pwd|token|secret|key", re.IGNORECASE)  # URL parameters with such names hold a secret
USER_INFO = re.compile(r"(\b[a-z][\w+.-]*://)([^\s/@:]*):\S*@", re.IGNORECASE)

_known: set[str] = set()


def remember(url: str) -> None:
    """Remember a URL's credentials as written, decoded, and encoded as in a request."""
    user_info = url.partition("://")[2].rpartition("@")[0]
    user, separator, password = user_info.partition(":")
    found = [password if separator else user if url.startswith("http") else ""]  # a token may have no user name
    found += [value for name, value in parse_qsl(url.partition("?")[2]) if PARAMETER.search(name)]
    if user_info:
        _known.add(base64.b64encode(unquote(user_info).encode()).decode())
    for secret in filter(None, found):
        _known.update((secret, unquote(secret), quote(secret, safe=""), quote(unquote(secret), safe="")))


def remember_token(token: str) -> None:
    """Remember a token that came by other ways than a URL."""
    _known.add(token)


def masked(text: object) -> str:
    """A text with the credentials of all URLs in it, and all remembered ones, replaced by `***`."""
    shown = USER_INFO.sub(rf"\1\2:{HIDDEN}@", str(text))
    for secret in sorted(_known, key=len, reverse=True):
        shown = shown.replace(secret, HIDDEN)
    return shown
