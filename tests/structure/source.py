"""The package's source as the structure tests see it: files, syntax trees, the import graph drawn by hand.

Not import-linter: that tool judges the layers; this draws every import, function-local ones included, so that a
cycle between two modules of one folder is seen too.
"""

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "eyespot"


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Dotted name → file, of every module below `package`."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


@cache
def tree(file: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(file.read_text("utf-8"), str(file))


def import_graph(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Module → the modules of the package that it imports, anywhere in its text.

    `from a.b import c` is an edge to a.b.c where that is a module, else to a.b. That importing a module also runs
    the `__init__` of its folders is left out: those hold names for users, and nothing inside imports from them.
    """
    known = modules(package)
    graph: dict[str, set[str]] = {}
    for name, file in known.items():
        edges = set()
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Import):
                edges |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                edges |= {w if w in known else node.module for w in whole}
        graph[name] = (edges & known.keys()) - {name}
    return graph


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other: strongly connected components of more than one (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


@cache
def tracked() -> tuple[Path, ...]:
    """Files that git tracks or would track; every text file of the tree where there is no git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return tuple(p for p in (ROOT / line for line in listed.stdout.splitlines()) if p.is_file())
    skip = {".git", ".venv", "runs", "__pycache__"}
    return tuple(p for p in ROOT.rglob("*") if p.is_file() and not skip & set(p.relative_to(ROOT).parts))
