"""The documentation names what there is, and gives each word one meaning."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.test_layering import PACKAGE

DOCS = Path(__file__).parents[1] / "docs"
CALLS = re.findall(r"^  ([\w.]+):([\w.]+) ", (DOCS / "architecture.md").read_text(), re.MULTILINE)


def test_every_term_of_the_glossary_stands_there_once():
    rows = [line for line in (DOCS / "glossary.md").read_text().splitlines() if line.startswith("| ")]
    terms = Counter(row.split("|")[1].strip() for row in rows)
    del terms["term"]
    assert len(terms) > 50
    assert [term for term, count in terms.items() if count > 1] == []
    assert {row.count("|") for row in rows} == {4}


@pytest.mark.parametrize(("module", "name"), CALLS, ids=[":".join(call) for call in CALLS])
def test_the_calls_to_one_step_are_functions_of_the_package(module: str, name: str):
    body = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text()).body
    *classes, function = name.split(".")
    for owner in classes:
        body = next(node.body for node in body if isinstance(node, ast.ClassDef) and node.name == owner)
    assert function in {node.name for node in body if isinstance(node, ast.FunctionDef)}


def test_the_calls_end_with_a_step():
    assert CALLS[-1] == ("training.cell", "Cell.step")
