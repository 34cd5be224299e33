"""Plain vision transformer by configuration: towers of CLIP, SigLIP, ViT, DINOv2, InternViT, and small ones.

It reads raw patches, packed, and never sees a padded picture. `features` gives what a connector needs, the outputs
of chosen blocks before any final norm (Hugging Face's `hidden_states`: index 0 is the input of block 0, -2 the output
of the last block but one); blocks behind the deepest wanted one are not run. `pooled` gives a picture's one vector.

Patches may come in blocks (`MediaPlan.merge_size`), for a connector that joins neighbours: each still gets the position
of the place where it is on the picture, and features keep the patches' order.

CLIP: Radford et al. 2021; SigLIP: Zhai et al. 2023; ViT: Dosovitskiy et al. 2021; DINOv2: Oquab et al. 2023; registers:
Darcet et al. 2024; InternViT: Chen et al. 2023. Flags: `transformers` modeling_clip.py, modeling_siglip.py,
modeling_vit.py, modeling_dinov2.py, modeling_internvl.py.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from eyespot.contracts.batch import MediaBatch, Segments
from eyespot.contracts.config import Config
from eyespot.contracts.shapes import Float, Tensor
from eyespot.errors import EyespotError
from eyespot.models.encoders.blocks import EncoderBlock, layer_index
from eyespot.models.encoders.pools import AttentionPool, MeanQueryPool
from eyespot.models.encoders.stems import ConvStem, PatchStem


@dataclass(frozen=True)
class VitConfig(Config):
    """One tower. CLIP's and SigLIP's values are set by their families.

    Attributes:
        image_size: (height, width) in pixels that the position table was made for.
        class_token: a learned token before the patches (CLIP).
        pre_norm: a LayerNorm before block 0 (CLIP's `pre_layrnorm`).
        post_norm: ``none``; ``pooled``: on the pooled vector only (CLIP); ``sequence``: on all tokens (SigLIP).
        pool: ``class``, ``map`` (SigLIP's attention head), ``mean_query`` (InternVL-C's, which projects), ``mean`` or
            ``none``.
        pool_heads: of the attention of ``mean_query``.
        pooled_dense: a dense layer of the same width with ``tanh`` on the pooled vector (ViT's and BERT's pooler).
        projection_size: width of the contrastive space; None: no projection.
        stem: ``patch`` (one linear map of each patch) or ``conv`` (stride-2 convolutions down to the patch grid).
        stem_channels: output channels of the convolutions before the last.
        norm: of the blocks, ``layer`` or ``rms``.
        qk_norm_eps: eps of RMS norms of q and of k over all heads together (InternViT-6B); None: no such norms.
        interpolate_positions: resize of the position table for other picture sizes.
        position_filter: how: ``bicubic`` as it is, or with antialiasing ``bicubic_smooth`` (DINOv2 with registers) and
            ``bilinear`` (SigLIP 2's native aspect).
        registers: learned tokens without a place, between the class token and the patches.
        layer_scale: a learned factor for each channel of what a block adds (DINOv2).
        gated: SwiGLU in the blocks instead of two layers with `activation`.
        mask_token: what training put in the place of hidden patches; kept for export.
    """

    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    image_size: tuple[int, int] = (224, 224)
    patch_size: int = 32
    channels: int = 3
    patch_bias: bool = True
    class_token: bool = False
    pre_norm: bool = False
    norm: Literal["layer", "rms"] = "layer"
    norm_eps: float = 1e-6
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"] = "gelu"
    qkv_bias: bool = True
    post_norm: Literal["none", "pooled", "sequence"] = "none"
    pool: Literal["none", "class", "map", "mean", "mean_query"] = "none"
    pool_heads: int = 16
    pooled_dense: Literal["none", "tanh"] = "none"
    projection_size: int | None = None
    projection_bias: bool = False
    stem: Literal["patch", "conv"] = "patch"
    stem_channels: tuple[int, ...] = ()
    interpolate_positions: bool = False
    position_filter: Literal["bicubic", "bicubic_smooth", "bilinear"] = "bicubic"
    registers: int = 0
    layer_scale: bool = False
    gated: bool = False
    mask_token: bool = False
    qk_norm_eps: float | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Patch rows and columns of the position table."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @property
    def extra_tokens(self) -> int:
        """Tokens before the patches of each picture."""
        return self.class_token + self.registers

    @property
    def output_size(self) -> int:
        """Width of `pooled`."""
        return self.projection_size or self.hidden_size


class VisionEncoder(nn.Module):
    """See the module's docstring."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        size = config.hidden_size
        stem = ConvStem if config.stem == "conv" else PatchStem
        self.stem = stem(config.channels, config.patch_size, size, config.patch_bias, config.stem_channels)
        self.class_embedding = nn.Parameter(torch.empty(size)) if config.class_token else None
        self.registers = nn.Parameter(torch.empty(config.registers, size)) if config.registers else None
        self.mask_token = nn.Parameter(torch.empty(size)) if config.mask_token else None
        rows = config.grid[0] * config.grid[1] + config.class_token
        self.position_embedding = nn.Parameter(torch.empty(rows, size))
        self.pre_norm = nn.LayerNorm(size, config.norm_eps) if config.pre_norm else None
        self.blocks = nn.ModuleList(
            EncoderBlock(
                size, config.num_heads, config.intermediate_size, config.activation, config.norm_eps, config.qkv_bias,
                config.norm, config.gated, config.layer_scale, config.qk_norm_eps,
            )
            for _ in range(config.num_layers)
        )  # fmt: skip
        self.post_norm = nn.LayerNorm(size, config.norm_eps) if config.post_norm != "none" else None
        self.pool = _pool(config)
        self.dense = nn.Linear(size, size) if config.pooled_dense == "tanh" else None
        projects = config.projection_size and config.pool != "mean_query"
        self.projection = nn.Linear(size, config.projection_size, bias=config.projection_bias) if projects else None

    def features(
        self, media: MediaBatch, layers: tuple[int, ...] = (-1,), keep_class: bool = False
    ) -> Float[Tensor, "N E"]:
        """Outputs of chosen blocks, concatenated on the last axis, packed picture after picture.

        Args:
            media: raw patches with their grids.
            layers: indices into the L + 1 hidden states.
            keep_class: leave the class token (LLaVA's ``full``) and registers in, before each picture's patches.
        """
        wanted = [self.layer_index(layer) for layer in layers]
        states = self._hidden_states(media, stop=max(wanted), keep=set(wanted))
        chosen = torch.cat([states[i] for i in wanted], dim=-1)
        return chosen if keep_class or not self.config.extra_tokens else self._patches_only(chosen, media)

    def pooled(self, media: MediaBatch) -> Float[Tensor, "B O"]:
        """One vector for each tile, not normalised."""
        return self.pool_tokens(self.features(media, (-1,), keep_class=True), self.lengths(media))

    def pool_tokens(self, x: Float[Tensor, "T E"], lengths: tuple[int, ...]) -> Float[Tensor, "B O"]:
        """One vector for each stretch of `lengths` tokens, which are the last block's, all of them."""
        if self.config.post_norm == "sequence" and self.post_norm is not None:
            x = self.post_norm(x)
        if self.pool is not None:
            x = self.pool(x, lengths)
        elif self.config.pool == "class":
            x = x[torch.tensor([0, *lengths[:-1]], device=x.device).cumsum(0)]
        elif self.config.pool == "mean":
            x = torch.stack([part.mean(0) for part in x.split(lengths)])
        else:
            raise EyespotError("not-supported", "this vision encoder has no pooled output (pool='none')")
        if self.config.post_norm == "pooled" and self.post_norm is not None:
            x = self.post_norm(x)
        if self.dense is not None:
            x = self.dense(x).tanh()
        return self.projection(x) if self.projection is not None else x

    def layer_index(self, layer: int) -> int:
        """Hugging Face's index into the L + 1 hidden states as a non-negative number."""
        return layer_index(layer, self.config.num_layers)

    def unused(self, layers: tuple[int, ...] = ()) -> list[str]:
        """Parameters that `features` with these layers, or else `pooled`, never reads; they are kept for export."""
        prefixes: tuple[str, ...] = ("mask_token",)
        if layers:
            deepest = max(self.layer_index(layer) for layer in layers)
            behind = [f"blocks.{i}." for i in range(deepest, self.config.num_layers)]
            prefixes += (*behind, "post_norm.", "pool.", "dense.", "projection.")
        return [name for name, _ in self.named_parameters() if name.startswith(prefixes)]

    def _hidden_states(self, media: MediaBatch, stop: int, keep: set[int]) -> dict[int, Tensor]:
        x = self._embed(media)
        segments = Segments.of(self.lengths(media), rule="full")
        states = {0: x} if 0 in keep else {}
        for i, block in enumerate(self.blocks[:stop], start=1):
            x = block(x, segments)
            if i in keep:
                states[i] = x
        return states

    def _embed(self, media: MediaBatch) -> Float[Tensor, "T E"]:
        x = self.stem(media.patches, media.grids)
        pictures = x.split([t * h * w for t, h, w in media.grids])
        plans = [plan for plan, rows in zip(media.plans, media.rows, strict=False) for _ in range(rows)]
        blocks = [(plan.merge_size, plan.block_order) for plan in plans] or [(1, "rows")] * len(pictures)
        grids = [(grid, *block) for grid, block in zip(media.grids, blocks, strict=True)]
        if self.config.stem == "conv" and any(merge > 1 for merge, _ in blocks):
            raise EyespotError("not-supported", "a convolutional stem folds patches row by row; these come in blocks")
        if len(set(grids)) == 1:  # the usual case: one picture size, no Python loop over pictures
            x = self._with_positions(torch.stack(pictures), *grids[0]).flatten(0, 1)
        else:
            x = torch.cat([self._with_positions(p[None], *g)[0] for p, g in zip(pictures, grids, strict=True)])
        return self.pre_norm(x) if self.pre_norm is not None else x

    def _with_positions(
        self, x: Float[Tensor, "B n E"], grid: tuple[int, int, int], merge: int, block_order: str
    ) -> Float[Tensor, "B m E"]:
        table, head = self._position_table(grid), int(self.config.class_token)
        if merge > 1:
            order = f"(gh mh gw mw) e -> ({'gh gw' if block_order == 'rows' else 'gw gh'} mh mw) e"
            patches = rearrange(table[head:], order, mh=merge, mw=merge, gw=grid[2] // merge)
            table = torch.cat([table[:head], patches])
        if self.class_embedding is not None:
            x = torch.cat([self.class_embedding.expand(len(x), 1, -1).to(x.dtype), x], dim=1)
        x = x + table
        if self.registers is None:
            return x
        return torch.cat([x[:, :head], self.registers.expand(len(x), -1, -1).to(x.dtype), x[:, head:]], dim=1)

    def _position_table(self, grid: tuple[int, int, int]) -> Float[Tensor, "m E"]:
        native = self.config.grid
        if grid[1:] == native:
            return self.position_embedding
        if not self.config.interpolate_positions:
            raise EyespotError(
                "not-supported",
                f"the position table is for {native[0]} × {native[1]} patches, a picture has {grid[1]} × {grid[2]}",
                remedy="Resize pictures to the encoder's size, or set interpolate_positions.",
            )
        first, patches = self.position_embedding.split([int(self.config.class_token), native[0] * native[1]])
        square = patches.float().unflatten(0, native).permute(2, 0, 1)[None]
        mode = self.config.position_filter.removesuffix("_smooth")
        smooth = self.config.position_filter != "bicubic"
        resized = F.interpolate(square, size=grid[1:], mode=mode, align_corners=False, antialias=smooth)
        return torch.cat([first, resized[0].permute(1, 2, 0).flatten(0, 1).to(first.dtype)])

    def lengths(self, media: MediaBatch) -> tuple[int, ...]:
        """Tokens of each tile."""
        return tuple(t * h * w + self.config.extra_tokens for t, h, w in media.grids)

    def _patches_only(self, x: Float[Tensor, "T E"], media: MediaBatch) -> Float[Tensor, "N E"]:
        lengths, extra = self.lengths(media), self.config.extra_tokens
        if len(set(lengths)) == 1:
            return x.unflatten(0, (len(lengths), lengths[0]))[:, extra:].flatten(0, 1)
        return torch.cat([part[extra:] for part in x.split(lengths)])


def _pool(config: VitConfig) -> nn.Module | None:
    size = config.hidden_size
    if config.pool == "map":
        return AttentionPool(size, config.num_heads, config.intermediate_size, config.activation, config.norm_eps)
    return MeanQueryPool(size, config.pool_heads, config.output_size) if config.pool == "mean_query" else None
