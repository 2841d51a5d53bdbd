"""What a language model's reply says, if it says it in the form that was asked for."""

from __future__ import annotations

import json
import re

THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)  # which some servers leave in the reply
FENCE = re.compile(r"\A```(?:json)?\s*\n(.*?)\n?```\Z", re.DOTALL)
NUMBER = re.compile(r"(?:Excerpt )?(\d{1,3})\.?", re.IGNORECASE)
LONGEST = 500  # characters of an explanation


def explanation_in(reply: str | None) -> str | None:
    """One line of text; None where there is none, or one far longer than was asked for."""
    printable = "".join(letter if letter.isprintable() else " " for letter in _bare(reply))
    text = " ".join(printable.split()).removeprefix("Explanation: ")
    return text if 0 < len(text) <= LONGEST else None


def verdicts_in(reply: str | None, count: int) -> tuple[bool | None, ...]:
    """A verdict per excerpt; None for each that is neither 0 nor 1, and for all if their number is wrong."""
    try:
        found = json.loads(_bare(reply))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or len(found) != count:
        return (None,) * count
    return tuple(bool(one) if isinstance(one, int) and one in (0, 1) else None for one in found)


def pick_in(reply: str | None, count: int) -> tuple[bool | None, ...]:
    """Yes for the one excerpt that is picked; None for all if none is, or one that there is not."""
    found = NUMBER.fullmatch(_bare(reply))
    picked = int(found[1]) if found else 0
    if not 1 <= picked <= count:
        return (None,) * count
    return tuple(number == picked for number in range(1, count + 1))


def _bare(reply: str | None) -> str:
    """Without thoughts before the answer and a fence around it."""
    text = THOUGHT.sub("", reply or "").strip()
    fenced = FENCE.match(text)
    return fenced[1].strip() if fenced else text
