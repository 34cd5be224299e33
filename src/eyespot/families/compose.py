"""`compose`: a LLaVA from published parts, with a fresh connector between them."""

from os import PathLike

import torch

from eyespot.contracts.contract import Contract, ImageRule
from eyespot.errors import EyespotError
from eyespot.families import sidefiles
from eyespot.families.family import Loaded, build
from eyespot.families.loading import Part, open_checkpoint, open_part
from eyespot.families.towers import form_of
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
    dtype: torch.dtype | None = None,
) -> Loaded:
    """Join an image tower and a language model. The connector is random; training makes it see.

    Args:
        vision: a CLIP or SigLIP checkpoint, both towers or the image tower alone.
        decoder: a text model, whose chat template is made to take pictures.
        connector: ``linear`` or ``mlp{n}x_gelu``.
        select_layer: hidden state of the tower that the connector reads.
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
    config = VlmConfig(text.config, tower.config, joined, (select_layer,))
    tensors, config = grow({**tower.tensors, **text.tensors}, config, used, tokenizer.vocab_size)
    dtype = dtype or text.tensors["decoder.norm.weight"].dtype
    # Only the connector needs values of its own; the whole model is never made twice.
    fresh = build(VlmConfig(text.config.replace(num_layers=0, vocab_size=1), None, joined)).connector.state_dict()
    tensors |= {f"connector.{name}": tensor for name, tensor in fresh.items()}
    module = build(config, "meta")
    module.vision_encoder.layer_index(select_layer)
    load_into(module, tensors, f"{tower.folder} + {text.folder}", dtype=dtype)
    contract = _contract(tower, text, tokenizer, image_id)
    generation = dict(text.files.get("generation_config.json", {}))
    return Loaded(
        module.eval(), Processor(contract, tokenizer), contract, family="llava",
        layout="hf" if connector == "mlp2x_gelu" else "eyespot", generation=generation,
    )  # fmt: skip


def _contract(tower: Part, text: Part, tokenizer: Tokenizer, image_id: int) -> Contract:
    source = open_checkpoint(text.folder)
    rule = source.family.contract_from_hf(text.files, source.config, tokenizer).text
    template = rule.template
    if template is not None and rule.image_token is None:
        template = with_images(template, IMAGE_TOKEN)
    image = image_rule(tower)
    return Contract(image=image, text=rule.replace(template=template, image_token=IMAGE_TOKEN, image_token_id=image_id))


def image_rule(tower: Part) -> ImageRule:
    """The rule that the tower's own checkpoint ships."""
    config = tower.config
    kind = form_of(config).processor
    return sidefiles.image_rule(tower.files, kind, patch_size=config.patch_size, image_size=config.image_size)
