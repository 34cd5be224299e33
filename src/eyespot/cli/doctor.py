"""`eyespot doctor`: what this machine has, which optional parts are there, and what stands in for the absent ones."""

import importlib.metadata
import importlib.util
import os
import platform
from typing import Any

from eyespot.cli.console import Json, say_json, table

# module, extra, what it is for, what happens without it
OPTIONAL = (
    ("sklearn", "worlds", "scanned digits of the world `handwriting`", "that world is refused, the others work"),
    ("av", "video", "video files", "videos are taken as lists of frames"),
    ("simplejpeg", "fast", "JPEG files, where pixels are fast", "Pillow decodes them"),
    ("skimage", "photos", "photographs as grounds and samples", "grounds are drawn: noise and gradients"),
    ("transformers", "parity", "the reference of the parity tests", "those tests are left out"),
)
PACKAGES = ("eyespot", "torch", "numpy", "pillow", "safetensors", "tokenizers", "huggingface_hub")


def doctor(as_json: Json = False) -> None:
    """Report the device, the precision, the optional parts and what stands in for them."""
    report = {"machine": _machine(), "versions": _versions(), "optional": _optional()}
    if as_json:
        say_json(report)
        return
    table(("machine", ""), report["machine"].items())
    table(("package", "version"), report["versions"].items())
    rows = [(p["module"], "yes" if p["found"] else "no", p["for"], _remedy(p)) for p in report["optional"]]
    table(("optional part", "found", "for", "without it"), rows)


def _remedy(part: dict[str, Any]) -> str:
    return "" if part["found"] else f"{part['without']} (pip install 'eyespot[{part['extra']}]')"


def _machine() -> dict[str, Any]:
    import torch

    from eyespot.runtime import device

    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "training precision": str(device.autocast_dtype("cpu")).removeprefix("torch."),
        "large pages": "on" if "hugetlb=1" in tunables else "off (set GLIBC_TUNABLES=glibc.malloc.hugetlb=1: faster)",
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def _optional() -> list[dict[str, Any]]:
    return [
        {"module": m, "extra": e, "for": f, "without": w, "found": importlib.util.find_spec(m) is not None}
        for m, e, f, w in OPTIONAL
    ]
