"""The key of an endpoint, which is in the environment alone."""

from __future__ import annotations

import os

from harness.errors import UserError
from harness.secrets import remember_token
from harness.study.judges import Endpoint


def key_for(asked: Endpoint) -> str | None:
    """The key in the environment. Raises UserError if it ought to be there."""
    if asked.key_variable is None:
        return None
    key = os.environ.get(asked.key_variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise UserError(
            f"interpretability.judge.key_variable: expected a key for {asked.url} in the environment's variable "
            f"{asked.key_variable}, got {'something else' if key else 'nothing'}"
        )
    remember_token(key)
    return key
