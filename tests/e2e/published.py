"""Tiny random checkpoints made by `transformers`, as a publisher would upload them."""

import json

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tests.e2e.checkpoints import CHATML, TEXTS, VICUNA

SPECIALS = ["<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]
VOCAB = 340
SIZE = 28


def redraw(model, scale=0.2, seed=0):
    """Every parameter drawn, norms around one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    return model.float().eval()


def tokenizer(folder, *, bos=None, eos, template=None, image=False):
    """A byte-level BPE; `image`: it knows `<image>`."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    specials = [*SPECIALS, *(["<image>"] if image else [])]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        [text for text in TEXTS for _ in range(20)],
        trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=specials, initial_alphabet=alphabet),
    )
    if bos:
        raw.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, specials.index(bos))]
        )
    more = {"image_token": "<image>"} if image else {}
    made = hf.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=bos, eos_token=eos, unk_token="<unk>", pad_token="<pad>",
        additional_special_tokens=[s for s in specials if s not in (bos, eos, "<unk>", "<pad>")],
        extra_special_tokens=more, padding_side="left",
    )  # fmt: skip
    made.chat_template = template
    made.save_pretrained(folder)
    return made


def clip(folder):
    """Both towers of a CLIP, with its image processor."""
    sizes = {"intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    vision = {**sizes, "hidden_size": 16, "image_size": SIZE, "patch_size": 7, "projection_dim": 12}
    text = {**sizes, "hidden_size": 16, "vocab_size": VOCAB, "max_position_embeddings": 16, "projection_dim": 12}
    config = hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    redraw(hf.CLIPModel(config)).save_pretrained(folder)
    image_processor().save_pretrained(folder)
    return folder


def siglip(folder):
    """SigLIP's image tower alone."""
    config = hf.SiglipVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=SIZE, patch_size=7
    )
    redraw(hf.SiglipVisionModel(config)).save_pretrained(folder)
    hf.SiglipImageProcessorPil(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)
    return folder


def image_processor():
    return hf.CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})


def qwen2(folder, *, spare, tied, old=False):
    """A Qwen2 that has never heard of pictures.

    `spare` rows of its embedding belong to no token. `old`: bfloat16 in shards, the template in the tokenizer's config.
    """
    tok = tokenizer(folder, eos="<|im_end|>", template=CHATML)
    config = hf.Qwen2Config(
        vocab_size=len(tok) + spare, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=tied, use_sliding_window=False,
        bos_token_id=None, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id,
    )  # fmt: skip
    model = redraw(hf.Qwen2ForCausalLM(config))
    if old:
        model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="20KB")
        assert (folder / "model.safetensors.index.json").is_file()
        (folder / "chat_template.jinja").unlink()
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": CHATML}))
    else:
        model.save_pretrained(folder)
    return folder


def llava(folder):
    """A LLaVA of CLIP and Llama with its processor; gives the reference model and processor."""
    tok = tokenizer(folder, bos="<s>", eos="</s>", template=VICUNA, image=True)
    text = hf.LlamaConfig(
        vocab_size=len(tok), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, bos_token_id=tok.bos_token_id,
        eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id,
    )  # fmt: skip
    vision = hf.CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=SIZE, patch_size=7
    )
    config = hf.LlavaConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), vision_feature_layer=-2,
        vision_feature_select_strategy="default", image_seq_length=16, tie_word_embeddings=False,
        image_token_index=tok.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    model = redraw(hf.LlavaForConditionalGeneration(config))
    model.save_pretrained(folder)
    processor = hf.LlavaProcessor(
        image_processor=image_processor(), tokenizer=tok, patch_size=7, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=VICUNA, image_token="<image>",
    )  # fmt: skip
    processor.save_pretrained(folder)
    return model, processor


def answer(model, processor, messages, max_new_tokens):
    """Inputs, logits of the whole prompt, and the greedy answer's ids, as `transformers` has them."""
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "add_generation_prompt": True}
    inputs = processor.apply_chat_template(messages, **options)
    with torch.no_grad():
        logits = model(**inputs).logits[0]
        made = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)[0]
    return inputs["input_ids"][0].tolist(), logits, made[inputs["input_ids"].shape[1] :].tolist()
