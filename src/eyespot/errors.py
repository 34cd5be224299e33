"""Every error that a user can cause: one class, one table of codes.

An error says what was expected and what came (`message`), where (`where`: a sample id, media
index, key, file and line) and what to do (`remedy`). The command line prints it in two lines and
exits 2; `eyespot explain CODE` prints the table's longer text; `docs/errors.md` is made from it.
"""

import difflib
from collections.abc import Iterable


class EyespotError(Exception):
    """An error caused by input, data, a checkpoint or a configuration, never by a bug of ours.

    Args:
        code: a key of `CODES`, such as ``"media-truncated"``; stable, for programs.
        message: one sentence: what was expected and what came.
        where: the item: file and line, sample id, media index, key. Empty when there is none.
        remedy: what to do, as an imperative sentence.
    """

    def __init__(self, code: str, message: str, *, where: str = "", remedy: str = "") -> None:
        if code not in CODES:
            raise KeyError(f"error code {code!r} is not in eyespot.errors.CODES; add it there")
        self.code = code
        self.message = message
        self.where = where
        self.remedy = remedy or CODES[code]
        super().__init__(self.__str__())

    def __str__(self) -> str:
        where = f" [{self.where}]" if self.where else ""
        return f"{self.code}: {self.message}{where}\n  -> {self.remedy}"

    def __reduce__(self):
        # Errors cross process borders (loader workers); the default would call __init__ with one argument.
        return _rebuild, (self.code, self.message, self.where, self.remedy)

    def at(self, where: str) -> "EyespotError":
        """The same error with `where` put before what it already says (sample id before media index)."""
        joined = f"{where}: {self.where}" if self.where else where
        return EyespotError(self.code, self.message, where=joined, remedy=self.remedy)

    def to_dict(self) -> dict[str, str]:
        """The object that `--json` prints under ``error``."""
        return {"code": self.code, "message": self.message, "where": self.where, "remedy": self.remedy}


def _rebuild(code: str, message: str, where: str, remedy: str) -> EyespotError:
    return EyespotError(code, message, where=where, remedy=remedy)


def nearest(name: str, known: Iterable[str], limit: int = 3) -> str:
    """``"; did you mean 'x' or 'y'?"``, or a list of what is known where nothing is near."""
    names = sorted(map(str, known))
    near = difflib.get_close_matches(str(name), names, n=limit, cutoff=0.5)
    if near:
        return "; did you mean " + " or ".join(repr(n) for n in near) + "?"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"; known: {shown}" if names else ""


# code → the general remedy, also what `eyespot explain CODE` prints. Grouped by where it arises.
CODES: dict[str, str] = {
    # media
    "media-missing": "Check the path (relative paths are read from image_root, by default the data file's folder).",
    "media-unreadable": "Give a JPEG, PNG, GIF, WebP, BMP or TIFF picture, or a video file or list of frames for a video; open the file in a viewer to see what it holds.",
    "media-truncated": "The file ends too early: copy or download it again.",
    "media-too-large": "Make the picture or video smaller, or raise the limit that is named (limits.max_pixels, limits.max_film_bytes, …) if you trust its source.",
    "media-array": "Give a uint8 array shaped (H, W), (H, W, 3) or (H, W, 4); scale floats with (x * 255).astype('uint8').",
    "media-refused": "Give a path below image_root, a public http(s) URL or a base64 data: URL.",
    "media-fetch": "Check that the address opens in a browser, or download the file and give its path.",
    "media-count": "Give exactly one picture for each placeholder.",
    "media-size": "Give a picture of the size that the model takes, or use a contract whose rule resizes.",
    "media-empty": "The picture has no pixels, or the video no frames; remove the row or give another file.",
    # messages, data
    "message-malformed": 'Give [{"role": "user", "content": "…"}] with content a string or a list of parts.',
    "row-malformed": "See docs/data.md for the row formats that are read; `eyespot inspect data FILE` shows each bad row.",
    "row-no-answer": "Each training row needs a non-empty assistant answer; remove the row or fill it.",
    "row-unsupervised": "Nothing of the answer is left to learn after rendering and truncation; raise max_length or shorten the prompt.",
    "data-unknown-format": "See docs/data.md for the formats; `eyespot inspect data FILE` reports what was detected.",
    "data-missing": "Give the path of a .json or .jsonl file that exists, or world:NAME.",
    "data-empty": "The source has no rows; give another file.",
    "data-unreadable": "Mend the file at the named line: a .json file is one list of rows, a .jsonl file has a row on each line.",
    "data-changed": "The data differ from what the run began with; restore them, or start a new run.",
    "data-worker": "A process that prepares data ended (often: out of memory). Use fewer workers=, or workers=0 to see its error.",
    "data-dropped": "Mend the named rows (`eyespot inspect data FILE`), or raise max_dropped if losing them is wanted.",
    "too-long": "Shorten the text, use fewer or smaller pictures, or raise max_length.",
    # templates, tokenizers
    "template-failed": "The checkpoint's chat template cannot render this conversation; check roles and their order.",
    "template-limit": "The chat template ran past its limits of time or length; do not use this checkpoint's template.",
    "template-missing": "The checkpoint has no chat template; pass template='…' or use a checkpoint that ships one.",
    "tokenizer-missing": "Put tokenizer.json (or tokenizer.model) beside the weights.",
    "tokenizer-token": "A special token that the family needs is absent from the tokenizer; use the checkpoint's own tokenizer files.",
    "tokenizer-mismatch": "Use the tokenizer files that belong to these weights; tokens that were added since need rows in the table too (in transformers: resize_token_embeddings).",
    # checkpoints
    "checkpoint-missing": "Give a folder that holds config.json and the weights, or a hub id.",
    "checkpoint-exists": "Give a new or an empty folder; only what eyespot saved itself is replaced.",
    "checkpoint-keys": "The tensors do not fit the config; the table names each missing, unexpected or reshaped one.",
    "checkpoint-corrupt": "The file is damaged: copy or download it again.",
    "checkpoint-too-large": "A configuration, index, template or tokenizer is never that large: get the file from the checkpoint's authors.",
    "checkpoint-dtype": "Weights must be floating point; this file holds another type (quantised files need their own loader).",
    "checkpoint-path": "The index names a file that is absent or outside the folder; download the checkpoint again.",
    "checkpoint-seal": "A file differs from its recorded sha256; restore it, or run `eyespot seal PATH` if the edit was wanted.",
    "contract-mismatch": "The preprocessing differs from what the checkpoint was trained with; the field is named. Restore the files, or remove eyespot.json if the change is meant.",
    "unknown-family": "Give a checkpoint of a known family (listed in docs/families.md).",
    "family-config": "config.json asks for something this family does not support; the key is named.",
    "adapter-format": "Adapters are read and written as PEFT's plain LoRA on linear layers; the key or the layer is named.",
    "adapter-mismatch": "Give the adapter the model that it was trained on; the message names what does not fit.",
    "layout-unsupported": "Save in another layout (layout='eyespot' keeps everything).",
    "compose-mismatch": "Choose parts that can be joined; the message names the sizes.",
    "hub-unavailable": "Check the network and the id, or give a local folder.",
    # configuration, runs
    "config-unknown-key": "Use one of the known keys.",
    "config-value": "Give a value of the expected type.",
    "recipe-unknown": "Give a recipe's name or package.module:function.",
    "run-exists": "Give another out=…, or continue it with --resume auto.",
    "run-locked": "Wait for the other process to end, or give another out=….",
    "run-mismatch": "Resume with the configuration that the run was started with, or start a new run.",
    "trainable-unmatched": "Every pattern must match a parameter; `eyespot inspect model MODEL` lists the names.",
    "adapter-unmatched": "Adapters go onto linear layers; `eyespot inspect model MODEL --names` lists the names (without .weight).",
    "gradient-missing": "A trainable part gets no gradient; freeze it, or check that the data uses it.",
    "frozen-changed": "A frozen part changed during training; this is a fault in the run's code path, please report it.",
    "loss-not-finite": "Lower the learning rate, check the data, or train in float32.",
    # use
    "file-access": "Check that the path exists, that it may be read or written, and that the disk has room.",
    "argument": "See --help or the docstring.",
    "task-unknown": "Give the name of a known task.",
    "world-unknown": "Give the name of a known world.",
    "extra-missing": "Install the named extra.",
    "not-supported": "This model cannot do that; the message says what it can.",
}
