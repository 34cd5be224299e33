"""Milliseconds from a JPEG file to patches by ``pixels``: exact (PIL) and fast, and how far apart their values are.

Run on an idle machine: `make bench`. Prints medians of one thread.
"""

import io
import statistics
import time
from functools import partial

import numpy as np
import torch
from PIL import Image

from eyespot.contracts.contract import ImageRule
from eyespot.inputs.decode import decode_image
from eyespot.inputs.patches import prepare_image
from eyespot.inputs.resize import resize_image

RULES = {
    "336 x 336": ImageRule(size=(336, 336)),
    "any size": ImageRule(resize="dynamic", crop=False, min_pixels=3136, max_pixels=1_003_520, merge_size=2),
}
SIZES = ((480, 640), (1080, 1920), (3000, 4000))
ROUNDS = 7


def photograph(height: int, width: int) -> bytes:
    """A JPEG with structure at every scale."""
    rng = np.random.default_rng(height)
    picture = np.zeros((height, width, 3), np.float32)
    for step in (4, 16, 64, 256):
        coarse = Image.fromarray(rng.integers(0, 256, (height // step + 2, width // step + 2, 3), np.uint8))
        picture += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / 4
    file = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def milliseconds(work) -> float:
    taken = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return 1000 * statistics.median(taken)


def line(data: bytes, name: str, rule: ImageRule, size: str) -> None:
    """Time each step of one picture by one rule."""
    rules = {pixels: rule.replace(pixels=pixels) for pixels in ("exact", "fast")}
    media = {pixels: decode_image(data, rule=r) for pixels, r in rules.items()}
    made = {pixels: resize_image(media[pixels].data, r)[0].astype(int) for pixels, r in rules.items()}
    apart = int(np.abs(made["exact"] - made["fast"]).max())
    for step, work in {
        "decode": lambda pixels: decode_image(data, rule=rules[pixels]),
        "resize": lambda pixels: resize_image(media[pixels].data, rules[pixels]),
        "all": lambda pixels: prepare_image(decode_image(data, rule=rules[pixels]), rules[pixels]),
    }.items():
        exact, fast = (milliseconds(partial(work, pixels)) for pixels in ("exact", "fast"))
        print(f"{size:>12} {name:>10} {step:>8} {exact:9.1f} {fast:8.1f} {exact / fast:6.2f} {apart:>6}")


def main() -> None:
    """Print a line for each size, rule and step."""
    torch.set_num_threads(1)
    print(f"{'picture':>12} {'rule':>10} {'step':>8} {'exact ms':>9} {'fast ms':>8} {'times':>6} {'apart':>6}")
    for height, width in SIZES:
        data = photograph(height, width)
        for name, rule in RULES.items():
            line(data, name, rule, f"{width}x{height}")


if __name__ == "__main__":
    main()
