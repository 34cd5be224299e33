"""`eyespot inspect batch`: what a model really reads, token by token, and which tokens are learnt.

Learnt stretches are green and stand between ⟦ and ⟧, so that they are seen without colours too; the tokens of a
picture are folded into one mark with their number.
"""

from typing import Annotated, Any

import typer
from rich.text import Text

from eyespot.cli.console import Json, Pairs, integer, out, read_pairs, say_json, table
from eyespot.errors import EyespotError

KEYS = {"data", "image_root", "max_length", "seed"}


def batch(
    target: Annotated[str, typer.Argument(help="A checkpoint (folder or hub id).", show_default=False)],
    pairs: Pairs = None,
    rows: Annotated[int, typer.Option(min=1, help="How many rows to pack.")] = 2,
    as_json: Json = False,
) -> None:
    """Show the first rows of some data as the model reads them: each token, learnt or not.

    Keys: `data` (a file or world:NAME), `image_root`, `max_length`, `seed`.

    Example: `eyespot inspect batch runs/demo/model data=rows.jsonl`
    """
    from eyespot import families
    from eyespot.data.packing import pack
    from eyespot.data.sources import open_source

    options = read_pairs(pairs, KEYS)
    if "data" not in options:
        raise EyespotError("argument", "data=… is missing", remedy="Add data=FILE or data=world:NAME.")
    source = open_source(options["data"], image_root=options.get("image_root"), seed=integer(options, "seed") or 0)
    processor = families.load(target).processor
    count = rows if source.length is None else min(rows, source.length)
    samples = [_encode(processor, source, index, integer(options, "max_length")) for index in range(count)]
    packed = pack(samples)
    facts = {
        "rows": count,
        "tokens": packed.segments.tokens,
        "learnt": sum(sample.supervised for sample in samples),
        "segments": len(packed.segments.q_lens),
        "images": sum(len(sample.media) for sample in samples),
        "patches": sum(len(media.patches) for sample in samples for media in sample.media),
    }
    if as_json:
        say_json(facts | {"samples": [_plain(sample, processor.tokenizer) for sample in samples]})
        return
    for sample in samples:
        _show(sample, processor.tokenizer)
    table(tuple(facts), [tuple(facts.values())])


def _encode(processor: Any, source: Any, index: int, max_length: int | None) -> Any:
    try:
        example = source.read(index)
        return processor.encode_example(example, source=source.name, max_length=max_length, root=source.root)
    except EyespotError as error:
        raise (error if source.where(index) in error.where else error.at(source.where(index))) from None


def _show(sample: Any, tokenizer: Any) -> None:
    """One row; a branch starts on a line of its own."""
    console = out()
    console.print(Text(f"── {sample.sample_id}", style="bold"))
    start = 0
    for number, (length, parent) in enumerate(zip(sample.lengths, sample.parent, strict=True)):
        if parent >= 0:
            console.print(Text(f"   branch {number} of {parent}:", style="dim"))
        console.print(_line(sample, start, start + length, tokenizer))
        start += length


def _line(sample: Any, start: int, stop: int, tokenizer: Any) -> Text:
    media = {int(slot): number for number, item in enumerate(sample.media) for slot in item.slots}
    line = Text()
    at = start
    while at < stop:
        end = at + 1
        if at in media:
            while end < stop and media.get(end) == media[at]:
                end += 1
            kind = sample.media[media[at]].kind
            line.append(f"[{kind} {media[at]}: {end - at} tokens]", style="cyan")
        else:
            learnt = sample.loss_weight[at] > 0
            while end < stop and end not in media and (sample.loss_weight[end] > 0) == learnt:
                end += 1
            text = tokenizer.decode([int(i) for i in sample.input_ids[at:end]], skip_special=False)
            line.append(f"⟦{text}⟧" if learnt else text, style="bold green" if learnt else "")
        at = end
    return line


def _plain(sample: Any, tokenizer: Any) -> dict[str, Any]:
    """A sample for programs: one entry for each token."""
    media = {int(slot): number for number, item in enumerate(sample.media) for slot in item.slots}
    tokens = [
        {
            "id": int(token),
            "text": tokenizer.decode([int(token)], skip_special=False),
            "weight": float(weight),
            "image": media.get(i),
        }
        for i, (token, weight) in enumerate(zip(sample.input_ids, sample.loss_weight, strict=True))
    ]
    parent, lengths = list(sample.parent), list(sample.lengths)
    return {"sample_id": sample.sample_id, "lengths": lengths, "parent": parent, "tokens": tokens}
