"""Memory and time of loading and converting a checkpoint of a real size, beside `transformers`.

Makes a random checkpoint of Qwen2's form in bfloat16 (`--gigabytes`, default 2.5) in a temporary folder, loads it in
fresh processes, ours and theirs in turn, reads each process's peak of memory from the kernel, and deletes the folder.
Every load ends with a sum over all weights, so that weights which are only mapped are counted as well.

Run on an idle machine: `python benchmarks/loading.py`.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5
WIDTH, INNER, HEADS, KV_HEADS, VOCABULARY = 1536, 8960, 12, 2, 151_936


def make(folder: Path, gigabytes: float) -> int:
    """Shards and config of a random Qwen2; gives the bytes of the weights."""
    import torch

    from eyespot.weights.deferred import Deferred
    from eyespot.weights.files import write_tensors

    layer = {
        "self_attn.q_proj.weight": (WIDTH, WIDTH), "self_attn.q_proj.bias": (WIDTH,),
        "self_attn.o_proj.weight": (WIDTH, WIDTH), "input_layernorm.weight": (WIDTH,),
        "post_attention_layernorm.weight": (WIDTH,), "mlp.gate_proj.weight": (INNER, WIDTH),
        "mlp.up_proj.weight": (INNER, WIDTH), "mlp.down_proj.weight": (WIDTH, INNER),
    }  # fmt: skip
    narrow = WIDTH // HEADS * KV_HEADS
    for name in ("k_proj", "v_proj"):
        layer |= {f"self_attn.{name}.weight": (narrow, WIDTH), f"self_attn.{name}.bias": (narrow,)}
    outside = {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "model.norm.weight": (WIDTH,)}
    size = [2 * sum(torch.Size(shape).numel() for shape in part.values()) for part in (layer, outside)]
    layers = max(1, round((gigabytes * 1e9 - size[1]) / size[0]))
    shapes = outside | {f"model.layers.{i}.{name}": shape for i in range(layers) for name, shape in layer.items()}
    write_tensors(folder, Deferred({name: _random(shape) for name, shape in shapes.items()}), 2 * 10**9)
    config = {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": VOCABULARY, "hidden_size": WIDTH,
        "intermediate_size": INNER, "num_hidden_layers": layers, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "tie_word_embeddings": True, "rope_theta": 1e6, "dtype": "bfloat16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return size[0] * layers + size[1]


def _random(shape: tuple[int, ...]):
    import torch

    return lambda: torch.randn(shape, dtype=torch.bfloat16), torch.empty(shape, dtype=torch.bfloat16, device="meta")


def load(side: str, folder: Path, out: Path) -> None:
    """In a process of its own: what one side needs, as a line of JSON."""
    if side == "transformers":
        import torch
        import transformers

        def act():
            return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    else:
        from eyespot import families

        def act():
            return families.convert(folder, out, dtype="float16") if side == "convert" else families.load(folder).module

    before, began = _memory("VmRSS"), time.perf_counter()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    module = act()
    seconds = time.perf_counter() - began
    if module is not None:
        sum(float(p.flatten()[:: 1 << 10].float().sum()) for p in module.parameters())
    print(json.dumps({"seconds": seconds, "peak": _memory("VmHWM") - before}))


def _memory(key: str) -> int:
    """Bytes of this process's memory, pages of mapped files included."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[key].split()[0]) * 1024


def main() -> None:
    """Make, measure, delete."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.5)
    parser.add_argument("--side", choices=("eyespot", "transformers", "convert"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        load(given.side, given.folder, given.folder.with_name("out"))
        return
    work = Path(tempfile.mkdtemp(prefix="loading-"))
    try:
        folder = work / "model"
        folder.mkdir()
        size = make(folder, given.gigabytes)
        print(f"weights: {size / 1e9:.2f} GB")
        found: dict[str, list[dict[str, float]]] = {"eyespot": [], "transformers": [], "convert": []}
        for _ in range(ROUNDS):
            for side, rows in found.items():
                command = [sys.executable, __file__, "--side", side, "--folder", str(folder)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                rows.append(json.loads(done.stdout.splitlines()[-1]))
                shutil.rmtree(work / "out", ignore_errors=True)
        for side, rows in found.items():
            seconds, peak = statistics.median(r["seconds"] for r in rows), max(r["peak"] for r in rows)
            print(f"{side:<14} {seconds:6.2f} s   peak {peak / 1e9:5.2f} GB   {peak / size:5.3f} × the weights")
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
