"""Reference models of `transformers` in the names of open_clip and OpenAI, by a map of their own.

Written out key by key, not with the library's rules: it is what the rules are held against.
"""

import json
from pathlib import Path

import torch
import transformers as hf

from tests.parity.references import redraw


def _block(theirs: dict, source: str, target: str, out: dict) -> None:
    """A pre-norm block of CLIP or SigLIP as open_clip's ``resblocks``."""
    for norm in (1, 2):
        for kind in ("weight", "bias"):
            out[f"{target}.ln_{norm}.{kind}"] = theirs[f"{source}.layer_norm{norm}.{kind}"]
    for kind in ("weight", "bias"):
        fused = [theirs[f"{source}.self_attn.{x}_proj.{kind}"] for x in "qkv"]
        out[f"{target}.attn.in_proj_{kind}"] = torch.cat(fused)
        out[f"{target}.attn.out_proj.{kind}"] = theirs[f"{source}.self_attn.out_proj.{kind}"]
        out[f"{target}.mlp.c_fc.{kind}"] = theirs[f"{source}.mlp.fc1.{kind}"]
        out[f"{target}.mlp.c_proj.{kind}"] = theirs[f"{source}.mlp.fc2.{kind}"]


def clip_tensors(model: hf.CLIPModel) -> dict[str, torch.Tensor]:
    """CLIP as OpenAI names it."""
    theirs, out = model.state_dict(), {}
    vision, text = "vision_model", "text_model"
    for i in range(model.config.vision_config.num_hidden_layers):
        _block(theirs, f"{vision}.encoder.layers.{i}", f"visual.transformer.resblocks.{i}", out)
    for i in range(model.config.text_config.num_hidden_layers):
        _block(theirs, f"{text}.encoder.layers.{i}", f"transformer.resblocks.{i}", out)
    out["visual.conv1.weight"] = theirs[f"{vision}.embeddings.patch_embedding.weight"]
    out["visual.class_embedding"] = theirs[f"{vision}.embeddings.class_embedding"]
    out["visual.positional_embedding"] = theirs[f"{vision}.embeddings.position_embedding.weight"]
    for kind in ("weight", "bias"):
        out[f"visual.ln_pre.{kind}"] = theirs[f"{vision}.pre_layrnorm.{kind}"]
        out[f"visual.ln_post.{kind}"] = theirs[f"{vision}.post_layernorm.{kind}"]
        out[f"ln_final.{kind}"] = theirs[f"{text}.final_layer_norm.{kind}"]
    out["visual.proj"] = theirs["visual_projection.weight"].T
    out["text_projection"] = theirs["text_projection.weight"].T
    out["token_embedding.weight"] = theirs[f"{text}.embeddings.token_embedding.weight"]
    out["positional_embedding"] = theirs[f"{text}.embeddings.position_embedding.weight"]
    out["logit_scale"] = theirs["logit_scale"]
    return {name: tensor.detach().clone().contiguous() for name, tensor in out.items()}


def siglip_tensors(model: hf.SiglipModel) -> dict[str, torch.Tensor]:
    """SigLIP as open_clip has it: timm's image tower, open_clip's text tower in a module of its own."""
    theirs, out = model.state_dict(), {}
    vision, text = "vision_model", "text_model"
    for i in range(model.config.vision_config.num_hidden_layers):
        source, target = f"{vision}.encoder.layers.{i}", f"visual.trunk.blocks.{i}"
        for kind in ("weight", "bias"):
            fused = [theirs[f"{source}.self_attn.{x}_proj.{kind}"] for x in "qkv"]
            out[f"{target}.attn.qkv.{kind}"] = torch.cat(fused)
            out[f"{target}.attn.proj.{kind}"] = theirs[f"{source}.self_attn.out_proj.{kind}"]
            for layer in ("fc1", "fc2"):
                out[f"{target}.mlp.{layer}.{kind}"] = theirs[f"{source}.mlp.{layer}.{kind}"]
            for norm in (1, 2):
                out[f"{target}.norm{norm}.{kind}"] = theirs[f"{source}.layer_norm{norm}.{kind}"]
    size, head = model.config.vision_config.hidden_size, f"{vision}.head"
    out["visual.trunk.pos_embed"] = theirs[f"{vision}.embeddings.position_embedding.weight"][None]
    out["visual.trunk.attn_pool.latent"] = theirs[f"{head}.probe"]
    for kind in ("weight", "bias"):
        out[f"visual.trunk.patch_embed.proj.{kind}"] = theirs[f"{vision}.embeddings.patch_embedding.{kind}"]
        out[f"visual.trunk.norm.{kind}"] = theirs[f"{vision}.post_layernorm.{kind}"]
        fused = theirs[f"{head}.attention.in_proj_{kind}"]
        out[f"visual.trunk.attn_pool.q.{kind}"], out[f"visual.trunk.attn_pool.kv.{kind}"] = fused[:size], fused[size:]
        out[f"visual.trunk.attn_pool.proj.{kind}"] = theirs[f"{head}.attention.out_proj.{kind}"]
        out[f"visual.trunk.attn_pool.norm.{kind}"] = theirs[f"{head}.layernorm.{kind}"]
        for layer in ("fc1", "fc2"):
            out[f"visual.trunk.attn_pool.mlp.{layer}.{kind}"] = theirs[f"{head}.mlp.{layer}.{kind}"]
        out[f"text.ln_final.{kind}"] = theirs[f"{text}.final_layer_norm.{kind}"]
        out[f"text.text_projection.{kind}"] = theirs[f"{text}.head.{kind}"]
    for i in range(model.config.text_config.num_hidden_layers):
        _block(theirs, f"{text}.encoder.layers.{i}", f"text.transformer.resblocks.{i}", out)
    out["text.token_embedding.weight"] = theirs[f"{text}.embeddings.token_embedding.weight"]
    out["text.positional_embedding"] = theirs[f"{text}.embeddings.position_embedding.weight"]
    out["logit_scale"], out["logit_bias"] = theirs["logit_scale"][0], theirs["logit_bias"][0]
    return {name: tensor.detach().clone().contiguous() for name, tensor in out.items()}


class Biomed(torch.nn.Module):
    """BiomedCLIP's pair: a timm ViT with a linear head, a BERT with two linear layers behind its first token."""

    def __init__(self) -> None:
        super().__init__()
        shared = {"num_hidden_layers": 2, "intermediate_size": 256, "hidden_act": "gelu"}
        vision = hf.ViTConfig(
            **shared, hidden_size=192, num_attention_heads=3, image_size=42, patch_size=14, layer_norm_eps=1e-6
        )
        text = hf.BertConfig(
            **shared, vocab_size=60, hidden_size=128, num_attention_heads=2, max_position_embeddings=40,
            layer_norm_eps=1e-12, pad_token_id=0,
        )  # fmt: skip
        self.vision, self.text = (
            hf.ViTModel(vision, add_pooling_layer=False),
            hf.BertModel(text, add_pooling_layer=False),
        )
        self.image_proj = torch.nn.Linear(192, 24, bias=False)
        self.fc1, self.fc2 = torch.nn.Linear(128, 76, bias=False), torch.nn.Linear(76, 24, bias=False)
        self.logit_scale = torch.nn.Parameter(torch.tensor(2.0))

    def images(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.image_proj(self.vision(pixel_values=pixels).last_hidden_state[:, 0])
        return x / x.norm(dim=-1, keepdim=True)

    def texts(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.text(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state[:, 0]
        x = self.fc2(torch.nn.functional.gelu(self.fc1(x)))
        return x / x.norm(dim=-1, keepdim=True)

    def tensors(self) -> dict[str, torch.Tensor]:
        """As published, with the buffer that old files carry."""
        theirs, out = self.vision.state_dict(), {}
        for i in range(2):
            source, target = f"layers.{i}", f"visual.trunk.blocks.{i}"
            for kind in ("weight", "bias"):
                fused = [theirs[f"{source}.attention.{x}_proj.{kind}"] for x in "qkv"]
                out[f"{target}.attn.qkv.{kind}"] = torch.cat(fused)
                out[f"{target}.attn.proj.{kind}"] = theirs[f"{source}.attention.o_proj.{kind}"]
                for layer in ("fc1", "fc2"):
                    out[f"{target}.mlp.{layer}.{kind}"] = theirs[f"{source}.mlp.{layer}.{kind}"]
                out[f"{target}.norm1.{kind}"] = theirs[f"{source}.layernorm_before.{kind}"]
                out[f"{target}.norm2.{kind}"] = theirs[f"{source}.layernorm_after.{kind}"]
        out["visual.trunk.cls_token"] = theirs["embeddings.cls_token"]
        out["visual.trunk.pos_embed"] = theirs["embeddings.position_embeddings"]
        for kind in ("weight", "bias"):
            out[f"visual.trunk.patch_embed.proj.{kind}"] = theirs[f"embeddings.patch_embeddings.projection.{kind}"]
            out[f"visual.trunk.norm.{kind}"] = theirs[f"layernorm.{kind}"]
        out["visual.head.proj.weight"] = self.image_proj.weight
        out |= {f"text.transformer.{name}": tensor for name, tensor in self.text.state_dict().items()}
        out["text.transformer.embeddings.position_ids"] = torch.arange(40)[None]
        out["text.proj.0.weight"], out["text.proj.2.weight"] = self.fc1.weight, self.fc2.weight
        out["logit_scale"] = self.logit_scale
        return {name: tensor.detach().clone().contiguous() for name, tensor in out.items()}


def biomed(draw: str) -> Biomed:
    """BiomedCLIP's pair in one of the draws."""
    return redraw(Biomed(), draw)


def write(folder: Path, tensors: dict[str, torch.Tensor], model: dict, preprocess: dict | None = None) -> Path:
    """A checkpoint of open_clip, its weights pickled as most are."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(tensors, folder / "open_clip_pytorch_model.bin")
    raw = {"model_cfg": model, "preprocess_cfg": preprocess or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(raw), "utf-8")
    return folder
