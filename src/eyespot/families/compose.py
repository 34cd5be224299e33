"""`compose`: a LLaVA from published parts, with a fresh connector between them."""

from collections.abc import Sequence
from os import PathLike

import torch

from eyespot.contracts.contract import Contract, ImageRule, Tiling
from eyespot.errors import EyespotError
from eyespot.families.family import MAX_SIDE, Context, Loaded, build
from eyespot.families.loading import Part, open_checkpoint, open_part
from eyespot.families.table import all_families
from eyespot.families.vocabulary import check_rows, grow
from eyespot.inputs.processor import Processor
from eyespot.inputs.templates import with_images
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.connectors import ConnectorConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.models.vlm import VlmConfig
from eyespot.weights.files import load_into

IMAGE_TOKEN = "<image>"


def compose(
    vision: str | PathLike[str],
    decoder: str | PathLike[str],
    connector: str = "mlp2x_gelu",
    select_layer: int = -2,
    *,
    tiles: Sequence[tuple[int, int]] | None = None,
    dtype: torch.dtype | None = None,
) -> Loaded:
    """Join an image tower and a language model. The connector is random; training makes it see.

    Args:
        vision: an image tower, alone or in a larger checkpoint. One that `transformers`' LLaVA has no place for
            (NaFlex, DINOv2) makes a model in our own layout.
        decoder: a text model, whose chat template is made to take pictures.
        connector: ``linear`` or ``mlp{n}x_gelu``.
        select_layer: hidden state of the tower that the connector reads.
        tiles: rows and columns of tiles that a picture may be cut into, such as ``[(1, 2), (2, 1), (2, 2)]``; this
            makes a LLaVA-NeXT, with a fresh embedding that ends each row. None: every picture is one.
        dtype: of all weights; None: as the decoder's are stored.

    Raises:
        EyespotError: ``compose-mismatch`` where the parts cannot be joined.
    """
    tower, text = open_part("vision_encoder", vision), open_part("decoder", decoder)
    if not isinstance(tower.config, VitConfig):
        message = "the encoder takes pictures of any size, which a LLaVA cannot express"
        raise EyespotError("compose-mismatch", message, where=str(tower.folder))
    tokenizer = Tokenizer.load(text.folder)
    check_rows(tokenizer, VlmConfig(text.config), str(text.folder))
    used = min(tokenizer.vocab_size, text.config.vocab_size)
    (image_id,) = tokenizer.add_tokens([IMAGE_TOKEN])
    joined = ConnectorConfig(connector, tower.config.hidden_size, text.config.hidden_size)
    if connector == "identity" and joined.input_size != joined.output_size:
        widths = f"{joined.input_size} and {joined.output_size}"
        raise EyespotError("compose-mismatch", f"identity cannot join widths {widths}")
    contract = _contract(tower, text, tokenizer, image_id, tiles)
    config = VlmConfig(text.config, tower.config, joined, (select_layer,), newline=tiles is not None)
    tensors, config = grow({**tower.tensors, **text.tensors}, config, used, tokenizer.vocab_size)
    dtype = dtype or text.tensors["decoder.norm.weight"].dtype
    # Only what joins the parts needs values of its own; the whole model is never made twice.
    fresh = build(config.replace(decoder=text.config.replace(num_layers=0, vocab_size=1), vision=None)).state_dict()
    joining = {name: tensor for name, tensor in fresh.items() if name.startswith(("connector.", "image_newline"))}
    tensors = {**tensors, **joining}
    module = build(config, "meta")
    module.vision_encoder.layer_index(select_layer)
    load_into(module, tensors, f"{tower.folder} + {text.folder}", dtype=dtype)
    family = "llava" if tiles is None else "llava_next"
    generation = dict(text.files.get("generation_config.json", {}))
    return Loaded(
        module.eval(), Processor(contract, tokenizer), contract, family=family, layout=_layout(family, config),
        generation=generation,
    )  # fmt: skip


def _layout(family: str, config: VlmConfig) -> str:
    """Hugging Face's where it can express the model, else our own."""
    write = next(f for f in all_families() if f.name == family).layouts["hf"].config_to_hf
    try:
        write(config, Context())
    except EyespotError:
        return "eyespot"
    return "hf"


def _contract(
    tower: Part, text: Part, tokenizer: Tokenizer, image_id: int, tiles: Sequence[tuple[int, int]] | None
) -> Contract:
    source = open_checkpoint(text.folder)
    rule = source.family.contract_from_hf(text.files, source.config, tokenizer).text
    template = rule.template
    if template is not None and rule.image_token is None:
        template = with_images(template, IMAGE_TOKEN)
    image = image_rule(tower) if tiles is None else _tiled(image_rule(tower), tower, tiles)
    return Contract(image=image, text=rule.replace(template=template, image_token=IMAGE_TOKEN, image_token_id=image_id))


def image_rule(tower: Part) -> ImageRule:
    """How the tower's own checkpoint prepares a picture that is not cut."""
    source = open_checkpoint(tower.folder)
    rule = source.family.contract_from_hf(source.files, source.config, None).image
    return rule.replace(tiling=None, newline="none", extra_tokens=0, tokens_per_image=None)


def _tiled(rule: ImageRule, tower: Part, tiles: Sequence[tuple[int, int]]) -> ImageRule:
    """The same pixels in tiles of the tower's size."""
    size = tower.config.image_size
    if rule.size != size or rule.max_patches is not None:
        raise EyespotError("compose-mismatch", "tiles need a tower for pictures of one size", where=str(tower.folder))
    most = MAX_SIDE // max(size)
    if not tiles or not all(len(pair) == 2 and all(1 <= n <= most for n in pair) for pair in tiles):
        raise EyespotError("argument", f"expected rows and columns from 1 to {most}, got {tiles!r}", where="tiles")
    tiling = Tiling(tuple((rows * size[0], columns * size[1]) for rows, columns in tiles))
    own = {"resize": "exact", "shortest_edge": None, "crop": False, "pad_color": ImageRule().pad_color}
    return rule.replace(tiling=tiling, **own)
