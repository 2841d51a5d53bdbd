"""Exceptions that a user's mistake raises."""

from __future__ import annotations


class UserError(Exception):
    """A mistake that the user can mend: shown as one line, without traceback, exit code 2.

    The message names the file, the key and what was expected there.
    """


class SettingError(ValueError):
    """A setting that cannot be trained beside the others of its recipe.

    key: the recipe field to change. expected: what it should be, in words. got: its value.
    """

    def __init__(self, key: str, expected: str, got: object) -> None:
        self.key = key
        self.expected = expected
        self.got = got
        super().__init__(f"{key}: {self.message}")

    @property
    def message(self) -> str:
        """`expected ..., got ...`, for whoever says in another way where the setting stands."""
        got = f"{self.got:g}" if isinstance(self.got, float) else repr(self.got)
        return f"expected {self.expected}, got {got}"
