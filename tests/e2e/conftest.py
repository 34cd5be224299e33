"""What every end-to-end test has: a tiny checkpoint in a published layout, pictures, rows, and the command line."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from eyespot.cli.app import main
from tests.e2e.checkpoints import llava, save
from tests.e2e.rows import pixels, row, write_rows

SRC = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A LLaVA with random weights in Hugging Face's layout (`model`), a picture and rows about it."""
    folder = tmp_path_factory.mktemp("home")
    save(llava(), folder / "model")
    Image.fromarray(pixels()).save(folder / "star.png")
    write_rows(folder / "rows.json", [row(i) for i in range(8)])
    return folder


@pytest.fixture
def command(capsys):
    """Run the command line in this process: exit code, stdout, stderr."""

    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


@pytest.fixture
def process():
    """Run the command line as a user does, in a process of its own."""

    def start(*words, **options):
        environment = {**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1"}
        line = [sys.executable, "-m", "eyespot", *map(str, words)]
        return subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
        )

    return start
