"""Every fault that a user can bring, through the library and through the command line.

Each gives a code, names the item and a remedy, in two lines on stderr (one object under `--json`), exit 2, and leaves
nothing half written.
"""

import json
import shutil
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import eyespot
from eyespot.errors import EyespotError
from eyespot.recipes.finetune import finetune
from eyespot.recipes.tiny import tiny
from eyespot.train.loop import train
from eyespot.train.run import RunConfig, read_overrides
from tests.e2e.checkpoints import clip, llava, save
from tests.e2e.rows import pixels, row, write_rows

QUESTION = "What color is the star?"


@dataclass(frozen=True)
class Fault:
    """One fault: how it is laid out, how it is run both ways, and what must be said of it."""

    make: Callable[[Path, Path], Any]  # (home, folder) → what `call` and `words` get
    call: Callable[[Path, Any], Any]
    words: Callable[[Path, Any], list[Any]]
    code: str
    named: tuple[str, ...]


# ------------------------------------------------------------------------------------------------------------- pictures


def picture(write):
    """A fault of one picture, asked about."""

    def make(home, folder):
        path = folder / "picture.png"
        write(path)
        return path

    return make, ask, lambda home, path: ["chat", home / "model", QUESTION, "-i", path]


def ask(home, path):
    return eyespot.load(home / "model").chat(QUESTION, images=[path])


def truncated_jpeg(path):
    whole = path.with_suffix(".whole")
    Image.fromarray(pixels(200, 300)).save(whole, "JPEG")
    path.write_bytes(whole.read_bytes()[:1500])
    whole.unlink()


def huge_header(path):
    """A PNG of some hundred bytes that says it is 30,000 × 30,000."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b""))


PICTURES = {
    "missing image": Fault(*picture(lambda path: None), "media-missing", ("picture.png",)),
    "text file as image": Fault(
        *picture(lambda path: path.write_text("not a picture\n" * 9)), "media-unreadable", ("picture.png",)
    ),
    "truncated JPEG": Fault(*picture(truncated_jpeg), "media-truncated", ("picture.png",)),
    "30,000 × 30,000 header": Fault(*picture(huge_header), "media-too-large", ("picture.png", "30")),
}

# ----------------------------------------------------------------------------------------------------------------- rows


def rows(change, *options):
    """A fault of the row called `bad`, the only one of its file, trained on."""

    def make(home, folder):
        shutil.copy(home / "star.png", folder / "star.png")
        return write_rows(folder / "rows.json", [row(id="bad", **change)])

    def pairs(home, path):
        return [
            f"model={home / 'model'}",
            f"data={path}",
            f"out={path.parent / 'run'}",
            "steps=1",
            "batch_tokens=200",
            *options,
        ]

    def call(home, path):
        return list(train(read_overrides(finetune(), pairs(home, path))))

    return make, call, lambda home, path: ["train", "finetune", *pairs(home, path)]


TURN = {"from": "human", "value": "<image>\nWhat?"}
ANSWER = {"from": "gpt", "value": "red"}
LONG = {"from": "human", "value": "<image>" + "What color is the star? " * 400}

ROWS = {
    "more placeholders than pictures": Fault(
        *rows({"conversations": [{"from": "human", "value": "<image>\n<image>\nWhat?"}, ANSWER]}),
        "data-dropped",
        ("bad", "media-count", "2 placeholders", "1 pictures"),
    ),
    "a row without answers": Fault(*rows({"conversations": [TURN]}), "data-dropped", ("bad", "row-no-answer")),
    "a row with an empty answer": Fault(
        *rows({"conversations": [TURN, {"from": "gpt", "value": " "}]}), "data-dropped", ("bad", "row-no-answer")
    ),
    "a picture longer than the limit": Fault(*rows({}, "max_length=8"), "data-dropped", ("bad", "too-long", "8 fit")),
    "a question longer than the limit": Fault(
        *rows({"conversations": [LONG, ANSWER]}, "max_length=200"), "row-unsupervised", ("bad",)
    ),
    "a picture outside the folder": Fault(*rows({"image": "../star.png"}), "data-dropped", ("bad", "image_root")),
}

# ---------------------------------------------------------------------------------------------------------- checkpoints


def checkpoint(change):
    """A fault of a checkpoint as a stranger may have left it, read and exported."""

    def make(home, folder):
        copy = folder / "model"
        shutil.copytree(home / "model", copy)
        (copy / "eyespot.json").unlink()
        change(copy)
        return copy

    return make, lambda home, path: eyespot.load(path), lambda home, path: ["export", path, path.parent / "out"]


def tensors(change):
    def rewrite(folder):
        held = load_file(folder / "model.safetensors")
        change(held)
        save_file(held, folder / "model.safetensors")

    return checkpoint(rewrite)


def config(**changes):
    def rewrite(folder):
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return checkpoint(rewrite)


def cut_in_half(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def shards(name):
    """An index that places every tensor in the file `name`."""

    def rewrite(folder):
        weights = folder / "model.safetensors"
        held = load_file(weights)
        weights.replace(folder.parent / "elsewhere.safetensors")
        index = {"metadata": {}, "weight_map": dict.fromkeys(held, name)}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return checkpoint(rewrite)


NORM = "language_model.model.norm.weight"

CHECKPOINTS = {
    "a missing tensor": Fault(*tensors(lambda held: held.pop(NORM)), "checkpoint-keys", ("missing", NORM)),
    "an extra tensor": Fault(
        *tensors(lambda held: held.update(surplus=torch.ones(3))), "checkpoint-keys", ("unexpected", "surplus")
    ),
    "a misshapen tensor": Fault(
        *tensors(lambda held: held.update({NORM: torch.ones(7)})), "checkpoint-keys", ("misshapen", NORM, "(7,)")
    ),
    "integer weights": Fault(
        *tensors(lambda held: held.update({NORM: held[NORM].to(torch.int8)})), "checkpoint-dtype", (NORM, "int8")
    ),
    "safetensors cut in half": Fault(*checkpoint(cut_in_half), "checkpoint-corrupt", ("model.safetensors",)),
    "safetensors of noise": Fault(
        *checkpoint(lambda folder: (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40)),
        "checkpoint-corrupt",
        ("model.safetensors",),
    ),
    "an index that names an absent file": Fault(
        *shards("model-00001-of-00001.safetensors"), "checkpoint-path", ("model-00001-of-00001.safetensors", "absent")
    ),
    "an index that leads out of the folder": Fault(
        *shards("../elsewhere.safetensors"), "checkpoint-path", ("../elsewhere.safetensors",)
    ),
    "an unknown model_type": Fault(*config(model_type="lava"), "unknown-family", ("lava", "'llava'")),
    "no config": Fault(
        *checkpoint(lambda folder: (folder / "config.json").unlink()), "checkpoint-missing", ("config.json",)
    ),
}

# ------------------------------------------------------------------------------------------------------ everything else


def said(text):
    """A question that is at fault by itself."""
    return (
        lambda home, folder: text,
        lambda home, text: eyespot.load(home / "model").chat(text),
        lambda home, text: ["chat", home / "model", text],
    )


def key(pair):
    """A key of a run's configuration."""
    return (
        lambda home, folder: folder / "run",
        lambda home, out: read_overrides(tiny(), [pair, f"out={out}"]),
        lambda home, out: ["train", "tiny", pair, f"out={out}"],
    )


def template(text):
    """A chat template of a stranger's checkpoint, asked something."""
    make, _, _ = checkpoint(lambda folder: (folder / "chat_template.jinja").write_text(text))
    return make, lambda home, path: eyespot.load(path).chat(QUESTION), lambda home, path: ["chat", path, QUESTION]


FOREVER = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"

OTHERS = {
    "a conversation longer than the model's": Fault(
        *said(QUESTION * 3000), "too-long", ("tokens", "model takes fewer than")
    ),
    "an unknown key of a run": Fault(*key("stesp=3"), "config-unknown-key", ("stesp", "'steps'")),
    "an unknown key of a stage": Fault(*key("align.stesp=3"), "config-unknown-key", ("align.stesp", "'align.steps'")),
    "a value of another type": Fault(*key("steps=many"), "config-value", ("steps", "many")),
    "a template that loops forever": Fault(*template(FOREVER), "template-limit", ("template",)),
    "a template that writes forever": Fault(
        *template("{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}"), "template-limit", ("template",)
    ),
}

FAULTS = {**PICTURES, **ROWS, **CHECKPOINTS, **OTHERS}


def each(names):
    """The fault of each of these names."""
    ids = [name.replace(",", "").replace(" ", "-") for name in names]
    return pytest.mark.parametrize("fault", [FAULTS[name] for name in names], ids=ids)


@pytest.fixture
def laid_out(fault, home, tmp_path):
    """The fault on disk, and a check that nothing was added beside it."""
    made = fault.make(home, tmp_path)
    before = set(tmp_path.rglob("*"))
    yield made
    left = {path.relative_to(tmp_path) for path in set(tmp_path.rglob("*")) - before}
    # A run that was refused has its record, so that the same command with --resume auto goes on; and nothing else.
    assert {str(path) for path in left} <= {"run", "run/run.json", "run/lock"}
    assert not [path for path in (home, home / "model") if any(p.name.startswith(".") for p in path.iterdir())]


def is_told(fault, code, message, where, remedy):
    assert code == fault.code
    assert message and remedy
    for word in fault.named:
        assert word in f"{message} {where}", word


@each(FAULTS)
def test_the_library_says_what_and_where_and_what_to_do(fault, laid_out, home):
    began = time.monotonic()
    with pytest.raises(EyespotError) as caught:
        fault.call(home, laid_out)
    error = caught.value
    is_told(fault, error.code, error.message, error.where, error.remedy)
    assert time.monotonic() - began < 15  # 3 s alone; the machine may be busy


@each(FAULTS)
def test_the_command_line_says_it_in_two_lines(fault, laid_out, home, command):
    result = command(*fault.words(home, laid_out))
    assert result.code == 2
    assert result.out == ""
    lines = result.err.splitlines()
    first, second = lines[-2:]
    assert first.startswith(f"error: {fault.code}: ") and second.startswith("  -> ")
    assert "Traceback" not in result.err
    is_told(fault, fault.code, first, "", second)
    if fault.words(home, laid_out)[0] != "train":  # which has shown its progress before
        assert len(lines) == 2


@each(["missing image", "a row without answers", "a missing tensor", "an unknown key of a run"])
def test_json_says_it_in_one_object(fault, laid_out, home, command):
    result = command(*fault.words(home, laid_out), "--json")
    assert result.code == 2
    assert result.err == ""
    error = json.loads(result.out)["error"]
    assert set(error) == {"code", "message", "where", "remedy"}
    is_told(fault, **error)


# --------------------------------------------------------------------------------------------------- beside the table


def test_more_image_parts_than_pictures_is_an_error(home):
    parts = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": QUESTION}]
    with pytest.raises(EyespotError, match="2 image parts .* 1 images") as caught:
        eyespot.load(home / "model").chat([{"role": "user", "content": parts}], images=[home / "star.png"])
    assert caught.value.code == "media-count"


def test_an_unknown_key_of_a_configuration_is_an_error_in_python_too():
    with pytest.raises(EyespotError, match="max_dropped") as caught:
        RunConfig.from_dict({"max_droped": 0.1})
    assert caught.value.code == "config-unknown-key"


def test_inspect_data_names_each_bad_row_and_what_is_wrong(home, tmp_path, command):
    shutil.copy(home / "star.png", tmp_path)
    bad = {
        "no-answer": row(id="no-answer", conversations=[TURN]),
        "no-file": row(id="no-file", image="nowhere.png"),
        "no-picture": row(id="no-picture", image=None),
    }
    write_rows(tmp_path / "rows.json", [row(0), *bad.values(), row(1)])
    result = command("inspect", "data", tmp_path / "rows.json")
    assert result.code == 2
    lines = result.err.splitlines()
    assert len(lines) == 3
    for line, (name, said) in zip(lines, (("no-answer", "row-no-answer"), ("no-file", "nowhere.png"),
                                          ("no-picture", "media-count")), strict=True):  # fmt: skip
        assert name in line and said in line and "rows.json" in line


def test_a_refused_run_goes_on_in_the_same_folder_once_the_data_are_mended(home, tmp_path, command):
    shutil.copy(home / "star.png", tmp_path)
    data = write_rows(tmp_path / "rows.json", [row(conversations=[TURN])])
    words = [
        "train",
        "finetune",
        f"model={home / 'model'}",
        f"data={data}",
        f"out={tmp_path / 'run'}",
        "steps=1",
        "batch_tokens=200",
    ]
    assert command(*words).code == 2
    write_rows(data, [row(0)])
    assert command(*words, "--resume", "auto").code == 0
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def test_a_process_ends_with_two_and_two_lines(home, process):
    run = process("chat", home / "model", QUESTION, "-i", "nowhere.png")
    out, err = run.communicate(timeout=120)
    assert run.returncode == 2
    assert out == ""
    assert [line[:5] for line in err.splitlines()] == ["error", "  -> "]
    assert "nowhere.png" in err


def test_an_answer_ends_where_the_model_knows_no_further_position(home):
    model = eyespot.load(home / "model")
    limit = model.module.config.decoder.max_position_embeddings
    word = model.chat("star " * 10, max_new_tokens=1).usage.prompt_tokens
    length = (model.chat("star " * 20, max_new_tokens=1).usage.prompt_tokens - word) // 10
    reply = model.chat("star " * (10 + (limit - word) // length - 4), max_new_tokens=10_000, temperature=5.0, seed=0)
    assert reply.finish_reason == "length"
    assert reply.usage.prompt_tokens + reply.usage.completion_tokens == limit


@pytest.mark.parametrize(
    ("make", "key", "value"),
    [
        (llava, "vision_feature_layer", None),
        (llava, "vision_feature_layer", [1.5]),
        (llava, "vision_feature_select_strategy", "cls"),
        (llava, "vision_config.num_hidden_layers", 10**9),
        (llava, "text_config.num_hidden_layers", 10**9),
        (llava, "text_config.num_key_value_heads", -1),
        (llava, "vision_config.patch_size", []),
        (llava, "vision_config.hidden_act", {}),
        (clip, "projection_dim", -1),
        (clip, "logit_scale_init_value", "high"),
        (clip, "text_config_dict", [3]),
    ],
)
def test_a_config_of_nonsense_names_its_key(tmp_path, make, key, value):
    save(make(), tmp_path)
    (tmp_path / "eyespot.json").unlink()
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text())
    *section, name = key.split(".")
    (raw[section[0]] if section else raw)[name] = value
    path.write_text(json.dumps(raw))
    with pytest.raises(EyespotError, match=name) as caught:
        eyespot.load(tmp_path)
    assert caught.value.code == "family-config"


NONSENSE = [
    ("preprocessor_config.json", "image_processor_type", 7),
    ("preprocessor_config.json", "size", {"shortest_edge": -1}),
    ("preprocessor_config.json", "crop_size", {"height": 28, "width": "wide"}),
    ("preprocessor_config.json", "crop_size", 10**9),
    ("preprocessor_config.json", "resample", 99),
    ("preprocessor_config.json", "image_mean", [0.5, 0.5]),
    ("preprocessor_config.json", "image_std", [0.5, 0.0, 0.5]),
    ("generation_config.json", "eos_token_id", {}),
    ("tokenizer_config.json", "eos_token", 5),
    ("processor_config.json", "image_token", [None]),
]


@pytest.mark.parametrize(("file", "key", "value"), NONSENSE)
def test_side_files_of_nonsense_are_told_too(tmp_path, file, key, value):
    save(llava(), tmp_path)
    (tmp_path / "eyespot.json").unlink()
    path = tmp_path / file
    raw = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**raw, key: value}))
    with pytest.raises(EyespotError) as caught:
        eyespot.load(tmp_path)
    assert caught.value.code in ("family-config", "config-value", "checkpoint-corrupt")
    assert key.removeprefix("image_") in str(caught.value).replace("image_token_index", "")


OWN = [("num_layers", 10**9), ("vocab_size", -1), ("num_heads", 0)]


@pytest.mark.parametrize(("key", "value"), OWN)
def test_a_config_of_our_own_layout_is_looked_at_as_closely(tmp_path, key, value):
    save(llava(), tmp_path, layout="eyespot")
    (tmp_path / "eyespot.json").unlink()
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text())
    raw["config"]["decoder"][key] = value
    path.write_text(json.dumps(raw))
    with pytest.raises(EyespotError, match=f"decoder.{key}"):
        eyespot.load(tmp_path)
