"""One safetensors file, written tensor by tensor: the format's header first, then the bytes of each in turn.

The library's own writer wants all tensors of a file at once, and copies them. Format: huggingface/safetensors, README.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from eyespot.contracts.shapes import Tensor

_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_ALIGNMENT = 8


def size(tensor: Tensor) -> int:
    """Bytes of a tensor in a file."""
    return tensor.numel() * tensor.element_size()


def write(path: Path, names: Sequence[str], tensors: Mapping[str, Tensor], shapes: Mapping[str, Tensor]) -> None:
    """Write some tensors to `path`.

    Args:
        path: of the file.
        names: of the tensors.
        tensors: each is asked for once, and let go when it is written.
        shapes: of at least these tensors, for the header; on any device.
    """
    order = sorted(names, key=lambda name: (-shapes[name].element_size(), name))  # wide numbers first: all stay aligned
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        start, end = end, end + size(shapes[name])
        entry = {"dtype": _NAMES[shapes[name].dtype], "shape": list(shapes[name].shape), "data_offsets": [start, end]}
        header[name] = entry
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            tensor = tensors[name].detach().to("cpu").contiguous()
            if (tensor.dtype, tensor.shape) != (shapes[name].dtype, shapes[name].shape):
                raise AssertionError(f"{name} is not what the header says")
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
