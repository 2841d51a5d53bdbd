"""Code fingerprints: what is reached, what is said, and that every version of Python sees the same."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import harness
from harness.fingerprint import code_fingerprint, definitions, fingerprint

# Most of Python's syntax, and where versions are known to differ: f-strings, printable characters, type comments.
SAMPLE = r'''
"""Docstring."""
from __future__ import annotations
import math, os.path as p
from decimal import Decimal as D

LIMIT: float = 1e-3
BIG, SMALL = 0xFFFF_FFFF_FFFF, -0.0
TEXT = "a" f"b{LIMIT:{BIG}.3f}" "c" f"{LIMIT=!r:>{SMALL}}{{}}" "\U0001fae8 \u2028 \ud800"
RAW = (b"\x00\xff", 1j, ..., None, True, 1, 1.0, "1")

def outer(a, /, b: int = LIMIT, *c, d=(lambda x=BIG: x), **e) -> dict[str, list[int]]:
    """Docstring."""
    n = 0
    def inner():
        nonlocal n
        global COUNT
        n, COUNT = n + 1, [y := i for i in range(b) if i not in {1, 2} if not i == 3]
        return {k: v for k, v in e.items()}, (z for z in c), [*c, *d], {**e}
    match a:
        case [1, *rest] | {"k": rest}: return f"{rest!s:{'>'}{8}} {'nested'} {{x}}"
        case Point(x=0, y=[_, str() as s]) if s: return Point.n
        case None | -1 | "t": ...
    try:
        with open(p) as f, open(p): return helper(*c, **e)[1:2, ::3, ...]
    except* (ValueError, OSError) as group: raise RuntimeError(TEXT, RAW) from group
    else: del n
    finally: assert math.pi, "no"
    while (q := inner()) and a < b <= n != 0: continue
    else: print(a if b else not c or d and ~n @ n // 2 ** -n, sep="")

async def helper(*xs):
    async with xs as x: return [await y async for y in x]
    yield lambda: (yield)

@staticmethod
class Point(D, metaclass=type):
    x: int
    y: float = LIMIT
    __slots__ = ()
    def m(self): return self.n() + [x for x in self.x][0]
    def n(self): return p.join
    def unused(self): return RAW
COUNT = 0
'''
SAMPLE_HASH = "59ea63ccf5069ad6f992cf5bacbd98afe3f5b661039e442587e2b83d9cf4adc6"
ROOTS = ["harness.training.cell:Cell", "harness.training.data:open_data"]  # most of what trains

PROGRAM = """if True:
    import json, pathlib, sys
    from harness.fingerprint import code_fingerprint, definitions
    sample, roots = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
    print(json.dumps([definitions(["sample:outer"], package=sample), code_fingerprint(roots)]))
"""


def others() -> list[str]:
    """Other Pythons that are here, from 3.11 on."""
    folders = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin")
    path = os.pathsep.join([os.environ["PATH"], *map(str, folders)])
    path = os.pathsep.join(folder for folder in path.split(os.pathsep) if Path(folder).name != "shims")
    names = [f"python3.{minor}" for minor in range(11, 20) if minor != sys.version_info.minor]
    return [found for name in names if (found := shutil.which(name, path=path))]


@pytest.fixture
def sample(tmp_path) -> Path:
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample/__init__.py").write_text(SAMPLE, encoding="utf-8")
    return tmp_path / "sample"


def test_every_version_of_python_sees_the_same(sample):
    here = definitions(["sample:outer"], package=sample)
    assert fingerprint(sorted(here.items())) == SAMPLE_HASH
    for python in others():
        command = [python, "-S", "-c", PROGRAM, str(sample), json.dumps(ROOTS)]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(harness.__file__).parents[1])}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert json.loads(run.stdout) == [here, code_fingerprint(ROOTS)], python


TOY = {
    "__init__.py": "VERSION = 1\n",
    "kernels/__init__.py": """
        from pathlib import Path
        SOURCES = ("fast.cpp",)
        def load(): return [Path(__file__).parent / name for name in SOURCES]
        def other(): ...
    """,
    "kernels/fast.cpp": """int f() { return 1; } // one\n""",
    "rules.py": """
        import outside
        from outside import Base
        from toy.table import entry
        STEP, UNUSED = 2, 3
        LIST = [STEP]
        print("an effect")
        class Root:
            SIZE = LIST
            def used(self): return STEP
            def never(self): return UNUSED
            def __init__(self): self.x = helper(1)
        class Leaf(Root, other=Root):
            def used(self):
                \"\"\"What it does.\"\"\"
                return super().used() + getattr(self, "by_name")  # a comment
            def by_name(self): return outside.f(self.x)
        class Hooked(Base):
            def called_by_base(self): ...
        def decorated(function): return function
        def helper(x, limit=STEP): return [UNRELATED for UNRELATED in range(x)]
        UNRELATED = 1
        def unused(): return Leaf().never
    """,
    "table.py": """
        from toy import rules
        TABLE = {"a": rules.helper}
        def entry(name): return TABLE[name]
    """,
    "main.py": """
        from __future__ import annotations
        from typing import TYPE_CHECKING
        from toy.rules import Hooked, Leaf, decorated
        import toy.kernels as kernels
        if TYPE_CHECKING:
            from toy.rules import unused
        @decorated
        def train(x: unused = None) -> unused:
            import toy.late
            from toy.table import entry
            kernels.load(), Hooked(), Leaf().used(), toy.late.now(), entry("a")
    """,
    "late.py": """
        def now(): return 1
        def later(): return 1
    """,
}
REACHED = {
    "a function by an import of its module": ("late.py", "def now(): return 1", "def now(): return 2"),
    "an import's origin": ("rules.py", "import outside", "import outer as outside"),
    "a decorator": ("rules.py", "return function", "return function()"),
    "a method that is asked for": ("rules.py", "return super().used()", "return super().used"),
    "a base class' method": ("rules.py", "def used(self): return STEP", "def used(self): return -STEP"),
    "a method by name": ("rules.py", "outside.f(self.x)", "outside.g(self.x)"),
    "what Python calls": ("rules.py", "helper(1)", "helper(2)"),
    "a class' constant": ("rules.py", "SIZE = LIST", "SIZE = LIST, LIST"),
    "a constant": ("rules.py", "STEP, UNUSED = 2, 3", "STEP, UNUSED = 4, 3"),
    "a default": ("rules.py", "limit=STEP", "limit=-STEP"),
    "a keyword of a class": ("rules.py", "other=Root", "others=Root"),
    "a method that another package may call": (
        "rules.py",
        "called_by_base(self): ...",
        "called_by_base(self): 1/0",
    ),
    "what a module does when it is imported": ("rules.py", "an effect", "another effect"),
    "a table": ("table.py", '"a": rules', '"b": rules'),
    "a kernel": ("kernels/fast.cpp", "return 1", "return 2"),
}
NOT_REACHED = {
    "a function that nobody names": ("late.py", "def later(): return 1", "def later(): return 2"),
    "a method that is not asked for": ("rules.py", "return UNUSED", "return -UNUSED"),
    "what only the type checker sees": ("rules.py", "return Leaf().never", "return Leaf()"),
    "a constant of the same name as a local variable": ("rules.py", "UNRELATED = 1", "UNRELATED = 2"),
    "another constant of the package": ("__init__.py", "1", "2"),
    "another function of the kernels": ("kernels/__init__.py", "def other(): ...", "def other(): 1 / 0"),
    "a comment": ("rules.py", "# a comment", "# another"),
    "a comment in C++": ("kernels/fast.cpp", "// one", "/* two */"),
    "a docstring": ("rules.py", "What it does.", "What it is for."),
    "an annotation": ("main.py", "-> unused", "-> None"),
    "the order of definitions": ("late.py", "def later(): return 1", "def later(): return 1\ndef last(): ..."),
    "layout": ("rules.py", "[UNRELATED for UNRELATED in range(x)]", "[UNRELATED\n for UNRELATED\n in range(x)]"),
}


@pytest.fixture
def toy(tmp_path) -> Path:
    for name, text in TOY.items():
        (tmp_path / "toy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "toy" / name).write_text(textwrap.dedent(text))
    return tmp_path / "toy"


def reached_after(toy: Path, file: str, old: str, new: str, **options) -> dict[str, str]:
    """What `train` reaches in a copy with this edit."""
    copy = shutil.copytree(toy, toy.parent / f"{len(list(toy.parent.iterdir()))}" / "toy")
    text = (copy / file).read_text()
    assert text.count(old) == 1 or file == "__init__.py"
    (copy / file).write_text(text.replace(old, new))
    return definitions(["toy.main:train"], package=copy, **options)


@pytest.mark.parametrize("name", REACHED)
def test_an_edit_of_what_is_reached_changes_the_hash(toy, name):
    assert reached_after(toy, *REACHED[name]) != definitions(["toy.main:train"], package=toy)


@pytest.mark.parametrize("name", NOT_REACHED)
def test_an_edit_of_anything_else_does_not(toy, name):
    assert reached_after(toy, *NOT_REACHED[name]) == definitions(["toy.main:train"], package=toy)


def test_a_cut_is_followed_only_where_it_is_a_root(toy):
    edit = ("table.py", '"a": rules', '"b": rules')
    before = definitions(["toy.main:train"], ["toy.table:TABLE"], toy)
    assert reached_after(toy, *edit, cut=["toy.table:TABLE"]) == before
    assert "toy.table:TABLE" in definitions(["toy.main:train", "toy.table:TABLE"], ["toy.table"], toy)


@pytest.mark.parametrize("root", ["harness.training.cell:Cello", "harness.training.celli:Cell", "os:path"])
def test_a_root_that_is_not_there_is_an_error(root):
    with pytest.raises(ValueError, match=r"expected a (module|definition)"):
        code_fingerprint([root])


def test_annotations_count_where_a_compiler_reads_them(tmp_path):
    def code(annotation: str, decorator: str) -> dict[str, str]:
        folder = tmp_path / f"{annotation}{decorator}" / "kernel"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(f"import triton\n@{decorator}\ndef f(block: {annotation}): ...\n")
        return definitions(["kernel:f"], package=folder)

    assert code("int", "triton.jit") != code("tl.constexpr", "triton.jit")
    assert code("int", "triton.cache") == code("tl.constexpr", "triton.cache")
