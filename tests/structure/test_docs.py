"""What the documents say is run: code blocks, commands, links, tables, the two languages of the README."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ERRORS, PARITY, errors_page, parity_page
from source import ROOT, tracked

from eyespot.errors import CODES

PAGES = sorted(p for p in tracked() if p.suffix == ".md")
# ```python is run, page by page in one namespace; ```python no-run needs what a test has not (a hub, minutes).
BLOCK = re.compile(r"^```(?P<info>[^\n]*)\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
IDS = [str(p.relative_to(ROOT)) for p in PAGES]


def blocks(page: Path, language: str) -> list[str]:
    return [m["code"] for m in BLOCK.finditer(page.read_text("utf-8")) if m["info"].strip() == language]


def commands(page: Path) -> list[list[str]]:
    """Words of each command in ```sh blocks; continued lines are joined, comments and prompts dropped."""
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    lines = (line.strip().removeprefix("$ ") for line in text.splitlines())
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: str(p.relative_to(ROOT)))
def test_code_blocks_run(page, tmp_path):
    # A process of its own: no pytest hook between the reader's code and the library, and a folder that goes away.
    script = tmp_path / "page.py"
    script.write_text("\n\n".join(blocks(page, "python")), "utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(script)]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_in_documents_parse(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for words in commands(page):
        if Path(words[0]).name == "eyespot":
            parse(words[1:])
        if words[0] == "make":
            assert set(words[1:]) <= targets, words


def parse(words: list[str]) -> None:
    """Let the command line's own parser read `words`, and stop before the verb runs."""
    import typer.main

    from eyespot.cli.app import app

    command, rest = typer.main.get_command(app), words
    context = command.make_context("eyespot", list(rest))
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, list(rest), parent=context)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_relative_links_exist(page):
    prose = BLOCK.sub("", page.read_text("utf-8"))
    targets = [m["target"].partition("#")[0] for m in LINK.finditer(prose)]
    relative = [t for t in targets if t and "://" not in t and not t.startswith("mailto:")]
    assert [t for t in relative if not (page.parent / t).exists()] == []


def test_the_page_of_errors_is_the_table_of_codes():
    assert ERRORS.read_text("utf-8") == errors_page(), "run: python tests/structure/pages.py"


def test_the_page_of_differences_is_what_the_goldens_say():
    assert PARITY.read_text("utf-8") == parity_page(), "run: python tests/structure/pages.py"


def test_every_code_is_raised_somewhere_or_reserved():
    text = "\n".join(p.read_text("utf-8") for p in (ROOT / "src").rglob("*.py") if p.name != "errors.py")
    assert [code for code in CODES if f'"{code}"' not in text] == []


def test_both_readmes_have_the_same_shape():
    english, korean = (headings(ROOT / name) for name in ("README.md", "README.ko.md"))
    assert english == korean


def headings(page: Path) -> list[int]:
    """The levels of a page's headings, in order."""
    prose = BLOCK.sub("", page.read_text("utf-8"))
    return [len(m) for m in re.findall(r"^(#+) ", prose, re.MULTILINE)]


def test_nothing_names_a_place_on_somebodys_machine():
    home = re.compile(r"/(?:home|Users|root)/(?!someone)\w")
    guilty = []
    for file in tracked():
        try:
            text = file.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        if file != Path(__file__) and (home.search(text) or str(ROOT) in text):
            guilty.append(str(file.relative_to(ROOT)))
    assert guilty == []


def test_every_model_type_is_documented():
    from eyespot.families import TABLE

    page = (ROOT / "docs" / "families.md").read_text("utf-8")
    assert [name for name in TABLE if f"`{name}`" not in page] == []
