"""Imports between packages only point down (docs/architecture.md)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import harness

PACKAGE = Path(harness.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the lowest one up. A package may import itself and those before it; modules in BASE are for every package.
PACKAGES = [
    "base",
    "inference",
    "sae",
    "optimizers",
    "activations",
    "sources",
    "study",
    "training",
    "evaluation",
    "interpretability",
    "workers",
    "engines",
    "records",
    "sweep",
    "analysis",
    "commands",
]
BASE = {
    "__init__",
    "backoff",
    "databases",
    "errors",
    "files",
    "fingerprint",
    "locks",
    "metrics",
    "narrow",
    "output",
    "progress",
    "secrets",
    "workspace",
    "yaml_file",
}
CORE = {"sae": {"torch"}, "training": {"torch", "numpy", "safetensors"}}
KERNELS = ("adam", "candidates", "dead", "errors", "gathers", "jumprelu", "muon", "selection")
TRITON = {f"harness.sae.gpu.{name}" for name in KERNELS}  # and none else
LAZY = {  # inside functions only
    "harness.training.optimizers": {"schedulefree", "pytorch_optimizer"},
    "harness.sae.gpu": {"triton"},
}
# The core reads recipes, not studies, and rows of activations, wherever they come from.
CATALOGUE = "harness.study.catalogue"  # what there is to choose from, and where its code is
SHARED = {"harness.study.recipe", "harness.study.curve"}
SHARED |= {"harness.files", "harness.optimizers.gram", "harness.optimizers.muon", "harness.errors"}
SHARED |= {"harness.activations.store"}


def package_of(module: str) -> str:
    parts = module.split(".")
    if len(parts) == 1 or parts[1] in BASE:
        return "base"
    return parts[1] if parts[1] in PACKAGES else "commands"


def name_of(path: Path) -> str:
    return ".".join(("harness", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def imports_of(path: Path, *, inside_functions: bool = True) -> set[str]:
    """Modules that a file imports anywhere in it, but for those that only the type checker sees."""
    tree = ast.parse(path.read_text())

    def passed_over(node: ast.AST) -> bool:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return not inside_functions
        return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"

    unseen = {id(inner) for node in ast.walk(tree) if passed_over(node) for inner in ast.walk(node)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {imported(str(node.module), alias.name) for alias in node.names}
    return found


def imported(module: str, name: str) -> str:
    """The module that `from module import name` is about: `name` may be one itself."""
    inner = PACKAGE.joinpath(*module.split(".")[1:], name)
    whole = module.split(".")[0] == "harness" and (inner.is_dir() or inner.with_suffix(".py").exists())
    return f"{module}.{name}" if whole else module


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_import_points_up(path):
    here = package_of(name_of(path))
    for module in imports_of(path):
        if module.split(".")[0] == "harness":
            assert PACKAGES.index(package_of(module)) <= PACKAGES.index(here), f"{here} imports {module}"


@pytest.mark.parametrize("path", [p for p in MODULES if package_of(name_of(p)) in CORE], ids=name_of)
def test_the_training_core_needs_torch_alone(path):
    allowed = CORE[package_of(name_of(path))] | set(sys.stdlib_module_names)
    allowed |= {"triton"} if name_of(path) in TRITON else set()
    lazy = {module.split(".")[0] for module in imports_of(path)} & LAZY.get(name_of(path), set())
    assert not lazy & {module.split(".")[0] for module in imports_of(path, inside_functions=False)}
    for module in imports_of(path):
        if module.split(".")[0] == "harness":
            assert package_of(module) in CORE or module in SHARED or module.startswith(CATALOGUE), module
        else:
            assert module.split(".")[0] in allowed | lazy, module


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p) not in TRITON], ids=name_of)
def test_kernels_in_triton_are_imported_by_nobody_who_does_not_call_them(path):
    assert not TRITON & imports_of(path, inside_functions=False)


def test_an_optimizer_that_needs_torch_alone_imports_no_more():
    code = """if True:
        import sys, torch
        from harness.study.recipe import Recipe
        from harness.training.cell import Cell
        for name in ("adam", "adamw", "muon", "sgd"):
            Cell(Recipe(latents=8, k=2, tokens=1024, optimizer=name, lr=1.0), 4, torch.device("cpu"))
        sys.exit(bool({"schedulefree", "pytorch_optimizer"} & sys.modules.keys()))
    """
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p).startswith(CATALOGUE)], ids=name_of)
def test_the_catalogue_needs_the_standard_library_alone(path):
    for module in imports_of(path):
        known = module.startswith(CATALOGUE) or module == "harness.errors"
        assert known or module.split(".")[0] in sys.stdlib_module_names, module


def test_plans_need_no_torch():
    code = """if True:
        import sys, harness.study.plan, harness.study.grid, harness.sources.kinds, harness.cli
        sys.exit(bool({"torch", "transformers", "polars"} & sys.modules.keys()))
    """
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_no_import_cycles():
    graph = {name_of(p): {m for m in imports_of(p) if m.startswith("harness.")} for p in MODULES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for other in sorted(graph.get(module, ())):
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())
