"""The view with names that figures can write."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from harness.analysis.plots.lettering import distinct, escaped, width
from harness.analysis.results.records import StudyRecord
from harness.analysis.views.view import View

LONGEST = 40  # letters of a level's or an axis' name


def drawable(view: View) -> View:
    """The view with names of axes and levels, and all text that contains them, as figures can write them."""
    study = view.study
    levels = [level for axis in study.axes.values() for level in axis if isinstance(level, str)]
    names = list(dict.fromkeys([*study.axes, *levels, *study.references]))
    long = [name for name in names if width(escaped(name)) > LONGEST]
    shortened = dict(zip(long, distinct([escaped(name) for name in long], LONGEST), strict=True))
    texts = {*names, study.name, *_texts(study.published.model_dump() if study.published else {})}
    if not long and all(escaped(text) == text for text in texts):
        return view
    pattern = re.compile("|".join(re.escape(name) for name in sorted(long, key=len, reverse=True)) or r"(?!)")
    change = cache(lambda text: escaped(pattern.sub(lambda match: shortened[match.group()], text)))
    record = StudyRecord.model_validate(_changed(study.model_dump(), change))
    tables = {name: [_changed(row, change) for row in rows] for name, rows in view.tables.items()}
    notes = ["long names are shortened (…)"] if long else []
    if any(escaped(text) != text for text in texts):
        notes.append(r"\u and a number: a letter that no installed font has")
    return View(record, tables, "; ".join(notes))


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from (*_texts(key), *_texts(inner))


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    """The same with every text in it changed, keys too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_changed(key, change): _changed(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_changed(inner, change) for inner in value]
    return value
