"""The contract of a checkpoint: what its published files say, held against the one that it was sealed with."""

from pathlib import Path
from typing import Any

from eyespot.contracts.contract import Contract, ImageRule
from eyespot.errors import EyespotError
from eyespot.families.family import Family, Files
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.weights import seal


def contract_of(
    folder: Path, family: Family, layout: str, config: Any, files: Files, tokenizer: Tokenizer | None, replaced: bool
) -> Contract:
    """The contract of the published files, with what only eyespot.json can say; where both speak, they must agree.

    Args:
        folder: of the checkpoint.
        family, layout: that it was read as.
        config: of the model.
        files: its small files.
        tokenizer: where it has one.
        replaced: parts of other checkpoints came in, which bring their own processor and tokenizer.

    Raises:
        EyespotError: ``contract-mismatch`` naming the fields; what the family raises for its files.
    """
    try:
        contract = family.contract_from_hf(files, config, tokenizer)
    except EyespotError as error:
        raise error.at(str(folder)) from None
    stored = seal.stored_contract(folder)
    if stored is None:
        return contract
    contract = own_fields(contract, stored)
    if not replaced:
        silent = family.layouts[layout].adds_image_token  # such files have no place for the text's rule
        said = contract.replace(text=stored.text) if silent else contract
        said.check_same(stored, where=f"{folder}: its files here, {seal.SEAL} there")
    return contract


def own_fields(contract: Contract, stored: Contract) -> Contract:
    """`contract` with the fields that no published file expresses taken from `stored`."""

    def own(rule: ImageRule | None, stored: ImageRule | None) -> ImageRule | None:
        if rule is None or stored is None:
            return rule
        kept = {name: getattr(stored, name) for name in ("alpha", "exif", "sixteen_bit", "pixels")}
        rule = rule.replace(**kept)
        if rule.tiling is None or stored.tiling is None:
            return rule
        return rule.replace(tiling=rule.tiling.ordered(stored.tiling.order))  # files hold canvases, not their spelling

    names = ("image", "video", "several")
    rules: dict[str, Any] = {name: own(getattr(contract, name), getattr(stored, name)) for name in names}
    if contract.frames is not None and stored.frames is not None:
        kept = {name: getattr(stored.frames, name) for name in ("spacing", "multiple", "max_total_pixels")}
        rules["frames"] = contract.frames.replace(**kept)
    # Files say that captions are cleaned as SigLIP's are, and not whether underscores are spaces.
    if {contract.text.clean, stored.text.clean} == {"siglip", "canonicalize"}:
        rules["text"] = contract.text.replace(clean=stored.text.clean)
    return contract.replace(**rules, coordinates=stored.coordinates)
