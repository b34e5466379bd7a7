"""The rules of the house, kept by machine: who imports whom, what is loaded when, and how long things may get."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "forethought"
FILES = sorted(PACKAGE.rglob("*.py"))

OPTIONAL = ("duckdb", "pandas", "pyarrow", "matplotlib", "tensorboard", "mlflow", "wandb")
OPTIONAL += ("onnx", "onnxscript", "onnxruntime")
OPTIONAL += ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "prometheus_client", "optuna")
ALIASES = {"torch.utils.tensorboard": "tensorboard"}

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LONGEST_FILE, LONGEST_FUNCTION = 405, 80  # lines; the aim is 400 and 60


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def imported_in_fresh_process(statement: str) -> set[str]:
    """Top-level packages that are loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def imports(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Every import below a node, with the full name of what is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node, node.module


def package_of(name: str) -> str:
    return ALIASES.get(name, name.partition(".")[0])


def for_type_checkers(tree: ast.AST) -> set[ast.AST]:
    """Nodes that only type checkers see."""
    guarded = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    return {inner for node in guarded for inner in ast.walk(node)}


def test_rooms_import_only_what_they_may() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_imports_in_a_circle() -> None:
    """Wherever the import stands: at the top, inside a function, or for type checkers only."""
    modules = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in FILES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names} & modules.keys()
            elif isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == PACKAGE.name:
                named = {f"{node.module}.{alias.name}" for alias in node.names}
                graph[name] |= {each if each in modules else str(node.module) for each in named}
    assert sum(map(len, graph.values())) > len(graph)
    TopologicalSorter(graph).prepare()  # CycleError names a circle


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = imported_in_fresh_process("import forethought")
    assert not loaded & {"torch", "polars", "numpy", "scipy", "faiss", "pydantic", "rich", *OPTIONAL}


@pytest.mark.parametrize(
    "module",
    [
        "data.reading",
        "data.prepare",
        "data.doctor",
        "data.shop",
        "data.public",
        "evaluation.compare",
        "evaluation.report",
    ],
)
def test_tables_and_comparisons_do_without_torch(module: str) -> None:
    assert "torch" not in imported_in_fresh_process(f"import forethought.{module}")


def test_an_optional_package_is_imported_in_one_file() -> None:
    homes: dict[str, set[str]] = defaultdict(set)
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        hidden = for_type_checkers(tree)
        for node, name in imports(tree):
            if node not in hidden:
                homes[package_of(name)].add(name_of(path))
    assert {name: homes[name] for name in OPTIONAL if len(homes[name]) > 1} == {}


def test_an_optional_package_is_imported_inside_a_function() -> None:
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {inner for node in ast.walk(tree) if isinstance(node, FUNCTIONS) for inner in ast.walk(node)}
        inside |= for_type_checkers(tree)
        early = [name for node, name in imports(tree) if package_of(name) in OPTIONAL and node not in inside]
        assert not early, f"{name_of(path)} imports {early} when it is loaded: import it where it is used."


def test_files_are_short() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_functions_are_short() -> None:
    too_long = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, FUNCTIONS):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    too_long[f"{name_of(path)}:{node.name}"] = length
    assert too_long == {}
