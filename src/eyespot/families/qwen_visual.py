"""The part of Qwen-VL that sees (Bai et al. 2023): OpenCLIP's ViT-bigG without its class token, and a resampler.

Names and config are those of ``visual`` in the checkpoints. The table of positions is for 16 × 16 patches, whatever
`image_size` says, and is resized to the pictures. Numerics: visual.py of the checkpoints.
"""

import math
from typing import Any

from eyespot.contracts.contract import ImageRule
from eyespot.errors import EyespotError
from eyespot.families import sidefiles
from eyespot.families.family import MAX_SIDE, Context, Json, check_sizes, differences, unsupported
from eyespot.families.towers import mlp_ratio
from eyespot.models.connectors import ConnectorConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.models.vlm import VlmConfig
from eyespot.weights.keymap import GroupSplit, Rearrange, Reshape, Rule, Split, within

TABLE_SIDE = 16
HEAD = 128  # channels of the resampler's heads
START = 151857  # the published id of `<img>`; the tokens that end and fill a picture follow it
IMAGE_TOKEN = "<imgpad>"
TAGS = ("<img>", "</img>", IMAGE_TOKEN)
_QKV = ("q_proj", "k_proj", "v_proj")
_DEFAULTS = {"n_queries": 256, "image_start_id": START}
_SIZES = ("heads", "image_size", "layers", "output_dim", "patch_size", "width", "n_queries", "image_start_id")
_FIXED = {"patch_bias": False, "pre_norm": True, "norm_eps": 1e-6, "activation": "gelu", "interpolate_positions": True}


def read(raw: Json, decoder_width: int) -> tuple[VitConfig, ConnectorConfig]:
    """Their ``visual`` as encoder and connector.

    Raises:
        EyespotError: ``family-config`` naming a key that asks for something unknown.
    """
    raw = {**_DEFAULTS, **raw}
    check_sizes({key: raw.get(key) for key in _SIZES}, _SIZES, "visual.")
    width, patch, output, queries = (raw[key] for key in ("width", "patch_size", "output_dim", "n_queries"))
    ratio = raw.get("mlp_ratio")
    for key, ok, known in (
        ("heads", width % raw["heads"] == 0, "a divisor of width"),
        ("image_size", patch <= raw["image_size"] <= MAX_SIDE, f"from patch_size to {MAX_SIDE:,} pixels"),
        ("patch_size", patch * TABLE_SIDE <= MAX_SIDE, f"up to {MAX_SIDE // TABLE_SIDE:,} pixels"),
        ("mlp_ratio", isinstance(ratio, (int, float)) and 1 <= width * ratio < math.inf, "a number above 0"),
        ("output_dim", output == decoder_width and output % HEAD == 0, f"hidden_size, a multiple of {HEAD}"),
        ("n_queries", math.isqrt(queries) ** 2 == queries, "a square number"),
    ):
        if not ok:
            raise unsupported(f"visual.{key}", raw.get(key), known)
    tower = {
        "hidden_size": width, "num_layers": raw["layers"], "num_heads": raw["heads"], "patch_size": patch,
        "intermediate_size": int(width * ratio), "image_size": (TABLE_SIDE * patch,) * 2, **_FIXED,
    }  # fmt: skip
    connector = ConnectorConfig("resampler", width, output, False, num_queries=queries, num_heads=output // HEAD)
    return VitConfig.from_dict(tower, "visual"), connector


def write(config: VlmConfig, context: Context) -> dict[str, Any]:
    """The inverse of `read`; the size of pictures is the image rule's.

    Raises:
        EyespotError: ``layout-unsupported`` naming the fields that this form cannot express.
    """
    tower, connector = config.vision, config.connector
    if not isinstance(tower, VitConfig) or connector is None or connector.kind != "resampler":
        raise EyespotError("layout-unsupported", "qwen needs an encoder for pictures of one size, and a resampler")
    size = tower.image_size if context.image is None else context.image.size
    raw = {
        "heads": tower.num_heads, "image_size": size[0], "layers": tower.num_layers,
        "mlp_ratio": mlp_ratio(tower.intermediate_size, tower.hidden_size),
        "output_dim": connector.output_size, "patch_size": tower.patch_size, "width": tower.hidden_size,
        "n_queries": connector.num_queries,
        "image_start_id": START if context.image_token_id is None else context.image_token_id - TAGS.index(IMAGE_TOKEN),
    }  # fmt: skip
    again = VlmConfig(config.decoder, *read(raw, config.decoder.hidden_size), select_layers=(-1,))
    lost = differences(config, again)
    if lost:
        raise EyespotError("layout-unsupported", f"qwen cannot express {'; '.join(lost)}")
    return raw


def image_rule(raw: Json, config: VlmConfig) -> ImageRule:
    """How pictures are prepared; the numbers stand in the authors' code, the size in ``visual``."""
    assert isinstance(config.vision, VitConfig) and config.connector is not None
    side = raw.get("image_size", config.vision.image_size[0])
    return ImageRule(
        size=(side, side), resize="exact", crop=False, mean=sidefiles.CLIP_MEAN, std=sidefiles.CLIP_STD,
        patch_size=config.vision.patch_size, tokens_per_image=config.connector.num_queries,
    )  # fmt: skip


def rules(config: VlmConfig) -> list[Rule]:
    """Tensor names."""
    assert isinstance(config.vision, VitConfig)
    p, heads = config.vision.patch_size, config.vision.num_heads
    head = config.vision.hidden_size // heads  # rows of one head, of q as of k and of v
    block = within([
        Rule("ln_1.{}", "norm1.{}"),
        Rule("ln_2.{}", "norm2.{}"),
        GroupSplit("attn.in_proj.{}", "attn.[].{}", _QKV, (head,) * 3, heads),
        Rule("attn.out_proj.{}", "attn.o_proj.{}"),
        Rule("mlp.c_fc.{}", "mlp.fc1.{}"),
        Rule("mlp.c_proj.{}", "mlp.fc2.{}"),
    ], "transformer.resblocks.{}.", "blocks.{}.")  # fmt: skip
    tower = [
        Reshape("conv1.weight", "stem.proj.weight", (-1, 3, p, p), (-1, 3 * p * p)),
        Rule("positional_embedding", "position_embedding"),
        Rule("ln_pre.{}", "pre_norm.{}"),
        *block,
    ]
    resampler = [
        Rule("attn_pool.pos_embed", "position_embedding"),
        Rule("attn_pool.query", "query"),
        Rule("attn_pool.kv_proj.weight", "kv_proj.weight"),
        Rule("attn_pool.ln_q.{}", "query_norm.{}"),
        Rule("attn_pool.ln_kv.{}", "norm.{}"),
        Split("attn_pool.attn.in_proj_weight", "attn.[].weight", _QKV),
        Split("attn_pool.attn.in_proj_bias", "attn.[].bias", _QKV),
        Rule("attn_pool.attn.out_proj.{}", "attn.o_proj.{}"),
        Rule("ln_post.{}", "post_norm.{}"),
        Rearrange("proj", "proj.weight", "i o -> o i"),  # multiplied from the right
    ]
    return within(
        [*within(tower, ours="vision_encoder."), *within(resampler, ours="connector.")], "transformer.visual."
    )
