"""Which text is found in installed packages."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.activations.docstrings import docstrings_of, file_docstrings, package_files

MODULE = '''
"""Module."""

def f():
    """Function.

    Text:
        Indented.
    """

class C:
    """Class."""

    if True:
        async def method(self):
            "Method."

try:
    pass
except ValueError:
    def g():
        """In a handler."""
    x = """No docstring."""
'''


def test_docstrings_come_in_the_order_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(MODULE)
    found = file_docstrings(tmp_path / "m.py")
    assert found == ["Module.", "Function.\n\nText:\n    Indented.", "Class.", "Method.", "In a handler."]


@pytest.mark.parametrize("text", ["def (:", "x = '\0'", "-" * 100_000 + "1"])
def test_files_that_do_not_parse_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.py").write_text(text)
    assert file_docstrings(tmp_path / "m.py") is None


def test_lone_surrogates_become_text_that_a_file_can_hold(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text('"a \\ud800 b"')
    assert file_docstrings(tmp_path / "m.py") == ["a ? b"]


def test_warnings_about_the_parsed_code_do_not_show(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text('"""Invalid escape: \\d."""\n1 is 1\n')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert file_docstrings(tmp_path / "m.py") == ["Invalid escape: \\d."]


def test_the_number_of_processes_does_not_matter() -> None:
    files = [path for _, path in package_files("rich") or []]
    assert docstrings_of(files, processes=2) == docstrings_of(files, processes=1)


def test_packages_are_found_and_not_imported(install: Callable[..., Path]) -> None:
    install(hx_pack={"__init__.py": "raise SystemExit", "b/a.pyi": "", "a.py": "", "tests/t.py": "", "n.txt": ""})
    found = [identity for identity, _ in package_files("hx_pack") or []]
    assert found == ["hx_pack/__init__.py", "hx_pack/a.py", "hx_pack/b/a.pyi"]
    assert "hx_pack" not in sys.modules


@pytest.mark.parametrize("name", ["no_such_package", "os.path", "", "__main__"])
def test_packages_that_are_not_installed_are_none(name: str) -> None:
    assert package_files(name) is None


def test_single_modules_and_those_without_text() -> None:
    assert [identity for identity, _ in package_files("textwrap") or []] == ["textwrap.py"]
    assert package_files("sys") == []
