"""Imports point down, and no two modules reach each other."""

import os
import subprocess
import sys

from source import ROOT, cycles, import_graph


def test_no_import_cycle_function_local_imports_included():
    assert cycles(import_graph()) == []


def test_a_planted_function_local_cycle_is_seen(tmp_path):
    package = tmp_path / "plant"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("import plant.b\n")
    (package / "b.py").write_text("def later():\n    from plant import a\n    return a\n")
    (package / "c.py").write_text("from plant import a, b\n")
    assert cycles(import_graph(package)) == [["plant.a", "plant.b"]]


def test_layers_hold():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_domains_are_independent_once_there_are_any():
    if (ROOT / "src" / "eyespot" / "domains").is_dir():
        settings = (ROOT / "pyproject.toml").read_text("utf-8")
        assert "eyespot.domains" in settings, "add an `independence` contract for eyespot.domains.* to pyproject.toml"
