"""A processor, a world and rows small enough to know by heart."""

import hashlib

import numpy as np

from eyespot.contracts.encoded import Encoded, EncodedMedia
from eyespot.contracts.message import Example, Message, Text
from eyespot.errors import EyespotError
from eyespot.inputs.decode import decode_image

IMAGE_TOKEN, END, SLOTS = 300, 301, 3


class TinyProcessor:
    """Bytes are tokens, a picture is three slots over two patches, an answer and its end token are learnt."""

    def encode_example(self, example, *, source="", root=None, max_length=None, limits=None, mute=()):
        ids, weight, media, borders = [], [], [], []
        for message in example.messages:
            if example.turns == "independent" and message.role == "user":
                borders.append(len(ids))
                prefix = next((i for i, part in enumerate(message.parts) if isinstance(part, Text)), 0)
                for part in message.parts[:prefix]:
                    self._picture(part, root, ids, weight, media)
                if len(borders) == 1 and len(ids) > borders[0]:
                    borders.append(len(ids))
            for part in message.parts:
                if isinstance(part, Text):
                    learnt = float(message.role == "assistant" and example.id not in mute)
                    tokens = [*part.text.encode()] + ([END] if message.role == "assistant" else [])
                    ids += tokens
                    weight += [learnt] * len(tokens)
                elif example.turns == "dialogue":
                    self._picture(part, root, ids, weight, media)
        cut = max(0, len(ids) - max_length) if max_length else 0
        if cut and media and max_length < media[-1].slots[-1] + 1:
            raise EyespotError("too-long", f"{len(ids)} tokens, at most {max_length}", where=example.id)
        keep = len(ids) - cut
        lengths, parent = _tree(borders, keep) if not cut else ((keep,), (-1,))
        return Encoded(
            example.id,
            source,
            np.array(ids[:keep], dtype=np.int64),
            np.array(weight[:keep], dtype=np.float32),
            lengths=lengths,
            parent=parent,
            media=tuple(media),
            truncated=cut,
        )

    def _picture(self, part, root, ids, weight, media):
        pixels = decode_image(part.source, root=root)
        patches = np.resize(pixels.data.astype(np.float32).ravel(), (2, 4))
        slots = np.arange(len(ids), len(ids) + SLOTS, dtype=np.int64)
        grid = np.array([[1, 1, 2]], dtype=np.int64)
        media.append(EncodedMedia("image", patches, grid, slots, pixels.size, (2, 1), pixels.sha256))
        ids += [IMAGE_TOKEN] * SLOTS
        weight += [0.0] * SLOTS


def _tree(borders, total):
    if len(borders) < 2:
        return (total,), (-1,)
    lengths = np.diff([*borders, total]).tolist()
    return tuple(lengths), (-1,) + (0,) * (len(lengths) - 1)


def llava(i, answer="yes", **extra):
    """One good LLaVA row."""
    turns = [{"from": "human", "value": f"<image>\nQuestion {i}?"}, {"from": "gpt", "value": answer}]
    return {"id": f"id{i}", "image": f"{i % 4}.png", "conversations": turns, **extra}


class Counting:
    """A world whose item i says i."""

    name = "counting"

    def __init__(self, words=3):
        self.words = words

    def examples(self, split, seed, start=0):
        i = start
        while True:
            text = f"{split} {seed} {i} " * (1 + i % self.words)
            yield Example(f"{split}-{i}", (Message("user", (Text(text),)), Message("assistant", (Text(str(i)),))))
            i += 1


def same(a, b):
    """Whether two batches hold the same bytes."""
    return fingerprint(a) == fingerprint(b)


def fingerprint(batch):
    digest = hashlib.sha256()
    for tensor in (batch.input_ids, batch.position_ids, batch.targets, batch.loss_weight):
        digest.update(repr((tensor.shape, tensor.dtype)).encode() + tensor.numpy().tobytes())
    for name, media in sorted(batch.media.items()):
        digest.update(repr((name, media.rows, media.counts, media.sha256, media.kind)).encode())
        for tensor in (media.patches, media.grid_thw, media.slots):
            digest.update(tensor.numpy().tobytes())
    digest.update(repr((batch.segments.q_lens, batch.segments.parent, batch.sample_ids, batch.owners)).encode())
    return digest.hexdigest()
