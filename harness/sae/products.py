"""How float32 products on a GPU are taken is a setting of the whole process, which holds for all its threads."""

from __future__ import annotations

from threading import Lock

SETTING = Lock()  # held by who changes it, and by who must not meet another's change
