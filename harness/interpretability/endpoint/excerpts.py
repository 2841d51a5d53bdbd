"""Windows of tokens as text, with some tokens marked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any, NamedTuple

PAIRS = (("<<", ">>"), ("{{", "}}"), ("⟦", "⟧"))  # what marks tokens: the first that no text has


class Shown(NamedTuple):
    """An excerpt's text, in parts: those of marked tokens and those of the others, in turn; none is empty."""

    parts: tuple[tuple[str, bool], ...]

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.parts)

    def marked(self, marks: tuple[str, str]) -> str:
        """The text with the marks around each marked part."""
        opening, closing = marks
        return "".join(opening + text + closing if is_marked else text for text, is_marked in self.parts)

    def line(self, marks: tuple[str, str]) -> str:
        """The same as a JSON string, which is one line whatever the text is."""
        return json.dumps(self.marked(marks), ensure_ascii=False)


def show(tokenizer: Any, ids: Sequence[int], marked: Sequence[bool]) -> Shown:
    """Decode a window. Neighbouring marked tokens are marked together.

    A character of several tokens is marked if one of them is.
    """
    text = decode(tokenizer, ids)
    cuts, position = [0], 0
    for is_marked, run in groupby(marked):
        position += len(list(run))
        cuts.append(max(cuts[-1], _cut(tokenizer, ids, text, position, forwards=is_marked)))
    sides = [is_marked for is_marked, _ in groupby(marked)]
    parts: list[tuple[str, bool]] = []
    for (start, end), is_marked in zip(pairwise(cuts), sides, strict=True):
        if part := text[start:end]:
            if parts and parts[-1][1] == is_marked:  # what was between them is part of no whole character
                part = parts.pop()[0] + part
            parts.append((part, is_marked))
    return Shown(tuple(parts))


def marks_for(shown: Sequence[Shown]) -> tuple[str, str]:
    """A pair of marks that can be told from all these texts."""
    number = 0
    while True:
        marks = PAIRS[number] if number < len(PAIRS) else (f"[mark{number}]", f"[/mark{number}]")
        if all(_clear(one, marks) for one in shown):
            return marks
        number += 1


def _clear(shown: Shown, marks: tuple[str, str]) -> bool:
    """Whether the text has neither mark, nor a bracket that would run into one, as in `<<<`."""
    found = shown.marked(marks)
    return not any(mark in shown.text or mark[0] + mark in found or mark + mark[-1] in found for mark in marks)


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of tokens, special ones included, as it was before it was split."""
    text: str = tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def _cut(tokenizer: Any, ids: Sequence[int], text: str, position: int, *, forwards: bool) -> int:
    """How many characters the first `position` tokens are.

    If they end within a character: those with it (forwards), or without it.
    """
    step = 1 if forwards else -1
    while 0 < position < len(ids):
        before, after = decode(tokenizer, ids[:position]), decode(tokenizer, ids[position:])
        # Many tokenizers drop a space at the start
        if text.startswith(before) and text[len(before) :].lstrip() == after.lstrip():
            return len(before)
        position += step
    return len(text) if position else 0
