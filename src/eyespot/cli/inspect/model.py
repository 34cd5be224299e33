"""`eyespot inspect model`: parts, parameters and the contract of a checkpoint."""

from typing import Annotated, Any

import typer

from eyespot.cli.console import Json, Verify, out, say_json, table

PARTS = ("vision_encoder", "text_encoder", "connector", "deep_connectors", "decoder", "lm_head")


def model(
    target: Annotated[str, typer.Argument(help="A checkpoint: folder or hub id.", show_default=False)],
    names: Annotated[bool, typer.Option("--names", help="Every parameter, as `trainable=` patterns see it.")] = False,
    verify: Verify = False,
    as_json: Json = False,
) -> None:
    """Show the parts of a model, their parameters and how its input is prepared.

    Example: `eyespot inspect model runs/demo/model --names`
    """
    from eyespot import families

    loaded = families.load(target, verify=verify)
    parts = _parts(loaded.module)
    facts = {
        "family": loaded.family,
        "layout": loaded.layout,
        "contract": loaded.contract.id,
        "parameters": sum(part["parameters"] for part in parts),
        "parts": parts,
        "input": loaded.contract.to_dict(),
    }
    tensors = [(n, "×".join(map(str, p.shape)), _short(p.dtype)) for n, p in loaded.module.named_parameters()]
    if as_json:
        say_json(facts | ({"tensors": [dict(zip(("name", "shape", "dtype"), t, strict=True)) for t in tensors]}))
        return
    table(("model", ""), [(key, str(facts[key])) for key in ("family", "layout", "contract")])
    rows = [(p["part"], p["tensors"], p["parameters"], p["dtype"]) for p in parts]
    table(("part", "tensors", "parameters", "dtype"), rows, title=f"{facts['parameters']:,} parameters")
    rule = loaded.contract.image
    if rule is not None:
        size = f"{rule.size[0]} × {rule.size[1]}, {rule.resize}"
        if rule.resize == "dynamic":
            size = f"any size, resized to {rule.min_pixels:,} to {rule.max_pixels:,} pixels"
        out().print(f"pictures: {size}, patches of {rule.patch_size} pixels", markup=False)
    if names:
        table(("parameter", "shape", "dtype"), tensors)


def _parts(module: Any) -> list[dict[str, Any]]:
    """A row for each named part, in order; what lies in none of them is called rest."""
    groups: dict[str, list[Any]] = {}
    for name, parameter in module.named_parameters():
        head = name.partition(".")[0]
        groups.setdefault(head if head in PARTS else "rest", []).append(parameter)
    return [
        {
            "part": part,
            "tensors": len(parameters),
            "parameters": sum(p.numel() for p in parameters),
            "dtype": ", ".join(sorted({_short(p.dtype) for p in parameters})),
        }
        for part, parameters in groups.items()
    ]


def _short(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
