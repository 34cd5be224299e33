"""Small data sets on disk; lets the tests of this folder import `data_fakes` beside them."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

from data_fakes import TinyProcessor


@pytest.fixture
def processor():
    return TinyProcessor()


@pytest.fixture
def pictures(tmp_path):
    """A folder with four small pictures, each of another colour."""
    for i, color in enumerate(("red", "green", "blue", "white")):
        Image.new("RGB", (4 + i, 3), color).save(tmp_path / f"{i}.png")
    return tmp_path


@pytest.fixture
def write(tmp_path):
    """Writes rows as .json or .jsonl and gives the path."""

    def write(rows, name="rows.jsonl"):
        path = tmp_path / name
        if name.endswith(".json"):
            path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write
