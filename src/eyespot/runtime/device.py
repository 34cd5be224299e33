"""Which device, and which number type it computes in. Masters are always float32; autocast is where bfloat16 enters."""

from contextlib import AbstractContextManager, nullcontext

import torch

from eyespot.errors import EyespotError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def pick(name: str = "auto") -> torch.device:
    """The device of this name; ``auto`` is the accelerator where there is one.

    Raises:
        EyespotError: ``argument`` for a name that torch does not know or a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise EyespotError("argument", f"unknown device {name!r}", remedy="Use auto, cpu, cuda or cuda:N.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EyespotError("argument", f"there is no device {name!r} here", remedy="Use device=auto or device=cpu.")
    return device


def autocast_dtype(device: str | torch.device = "cpu") -> torch.dtype:
    """bfloat16 where the hardware multiplies it (AVX-512 BF16, AMX, a GPU since Ampere), else float32."""
    kind = torch.device(device).type
    if kind == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif kind == "cpu":
        able = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.12 and later
        fast = bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32


def compute_dtype(precision: str, device: str | torch.device) -> torch.dtype:
    """What ``auto``, ``float32`` or ``bfloat16`` means on this device."""
    return autocast_dtype(device) if precision == "auto" else PRECISIONS[precision]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """Mixed precision in `dtype`; nothing at all for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)
