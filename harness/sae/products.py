"""How a GPU takes float32 and float16 products is a setting of the whole process, for all its threads."""

from __future__ import annotations

from threading import Lock

SETTING = Lock()  # held by who changes it, and by who must not meet another's change
