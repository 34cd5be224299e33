"""LLaVA against `transformers`: logits, greedy text, loss, both directions, two draws."""

import pytest
import torch
import transformers as hf

import eyespot
from tests.parity.references import BAR, DRAWS, llava, llava_processor, picture, relative, text_config, user

pytestmark = pytest.mark.parity

KINDS = ("llama", "mistral", "qwen2", "qwen3")
CONVERSATIONS = {
    "one picture": user(picture(60, 33), "What is in the picture?"),
    "text only": user("A red star is left of the blue circle. What?"),
    "tiny picture": user(picture(5, 3), "What is it?"),
    "wide picture": user(picture(400, 21), "What is left?"),
    "two pictures and text between": user("First", picture(30, 70), "and second", picture(64, 64, 1), "What is it?"),
    "two turns": [
        *user(picture(48, 48), "What?"),
        {"role": "assistant", "content": [{"type": "text", "text": "A star."}]},
        *user("And left of it?"),
    ],
}


def theirs(model, processor, messages, **options):
    inputs = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt", **options)
    with torch.no_grad():
        return inputs, model(**inputs).logits[0]


@pytest.fixture(params=DRAWS)
def draw(request) -> str:
    return request.param


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vision", ["clip", "siglip"])
def test_logits_and_ids_agree_on_every_conversation(tmp_path, draw, kind, vision):
    reference = llava(kind, draw, vision)
    reference.save_pretrained(tmp_path)
    processor = llava_processor(tmp_path, vision)
    model = eyespot.load(tmp_path)
    for name, messages in CONVERSATIONS.items():
        inputs, logits = theirs(reference, processor, messages, add_generation_prompt=True)
        trace = model.trace(messages, add_generation_prompt=True)
        assert trace.input_ids.tolist() == inputs["input_ids"][0].tolist(), name
        assert relative(trace.logits, logits) <= BAR[draw], name


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_text_agrees(tmp_path, draw, kind):
    reference = llava(kind, draw)
    reference.save_pretrained(tmp_path)
    processor = llava_processor(tmp_path)
    model = eyespot.load(tmp_path)
    messages = CONVERSATIONS["one picture"]
    inputs = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
    )
    made = reference.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    expected = processor.tokenizer.decode(made, skip_special_tokens=True)
    assert model.chat(messages, max_new_tokens=12).text == expected
    assert "".join(model.stream(messages, max_new_tokens=12)) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_what_we_export_they_load_and_agree(tmp_path, draw, kind):
    source, export = tmp_path / "source", tmp_path / "export"
    reference = llava(kind, draw)
    reference.save_pretrained(source)
    llava_processor(source)
    model = eyespot.load(source)
    eyespot.save(model, export, layout="hf")
    again, info = hf.LlavaForConditionalGeneration.from_pretrained(
        export, dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    processor = hf.AutoProcessor.from_pretrained(export, backend="pil")
    for messages in CONVERSATIONS.values():
        inputs, logits = theirs(again.eval(), processor, messages, add_generation_prompt=True)
        trace = model.trace(messages, add_generation_prompt=True)
        assert trace.input_ids.tolist() == inputs["input_ids"][0].tolist()
        assert relative(trace.logits, logits) <= BAR[draw]


@pytest.mark.parametrize("layers", [[-2, -1], [1], [-1]])
def test_feature_layers_are_read_as_they_read_them(tmp_path, draw, layers):
    reference = llava("llama", draw, vision_feature_layer=layers if len(layers) > 1 else layers[0])
    reference.save_pretrained(tmp_path)
    processor = llava_processor(tmp_path)
    messages = CONVERSATIONS["one picture"]
    _, logits = theirs(reference, processor, messages)
    assert relative(eyespot.load(tmp_path).trace(messages).logits, logits) <= BAR[draw]


def test_padding_to_square_agrees(tmp_path, draw):
    reference = llava("llama", draw)
    reference.save_pretrained(tmp_path)
    processor = llava_processor(tmp_path, pad=True)
    model = eyespot.load(tmp_path)
    for size in ((60, 33), (33, 60), (41, 42), (42, 43)):
        messages = user(picture(*size), "What?")
        _, logits = theirs(reference, processor, messages)
        assert relative(model.trace(messages).logits, logits) <= BAR[draw], size


@pytest.mark.parametrize("kind", KINDS)
def test_left_padded_batches_of_theirs_equal_our_packed_ones(tmp_path, draw, kind):
    reference = llava(kind, draw)
    reference.save_pretrained(tmp_path)
    processor = llava_processor(tmp_path)
    model = eyespot.load(tmp_path)
    conversations = [CONVERSATIONS["one picture"], CONVERSATIONS["two pictures and text between"]]
    inputs = processor.apply_chat_template(
        conversations, tokenize=True, return_dict=True, return_tensors="pt", padding=True
    )
    with torch.no_grad():
        logits = reference(**inputs).logits
    from eyespot.data.packing import pack
    from eyespot.inputs.messages import read_messages

    packed = pack([model.processor.encode(read_messages(c)) for c in conversations])
    with torch.no_grad():
        ours = model.module.logits(model.module(packed).last).split(packed.segments.q_lens)
    for row, (mine, mask) in enumerate(zip(ours, inputs["attention_mask"].bool(), strict=True)):
        assert relative(mine, logits[row][mask]) <= BAR[draw]


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_agrees(tmp_path, draw, kind):
    from eyespot.data.packing import pack
    from eyespot.inputs.messages import read_messages
    from eyespot.train.losses import token_loss

    reference = llava(kind, draw)
    reference.save_pretrained(tmp_path)
    processor = llava_processor(tmp_path)
    model = eyespot.load(tmp_path)
    messages = CONVERSATIONS["one picture"] + [
        {"role": "assistant", "content": [{"type": "text", "text": "A red star."}]}
    ]
    encoded = model.processor.encode(read_messages(messages))
    assert encoded.supervised > 0
    labels = torch.as_tensor(encoded.input_ids).clone()
    labels[torch.as_tensor(encoded.loss_weight) == 0] = -100
    inputs = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == encoded.input_ids.tolist()
    with torch.no_grad():
        expected = float(reference(**inputs, labels=labels[None]).loss)
        batch = pack([encoded])
        total, weight = token_loss(model.module, model.module(batch).last, batch.targets, batch.loss_weight)
    assert abs(float(total / weight) - expected) <= BAR[draw] * abs(expected)


def test_the_four_layouts_of_the_hub_give_the_same_model(tmp_path):
    """Layouts A, A2, B and C of `transformers`' history, made by renaming."""
    from safetensors.torch import load_file, save_file

    reference = llava("qwen2", "small")
    processor = llava_processor(tmp_path / "a2")
    reference.save_pretrained(tmp_path / "a2")
    tensors = load_file(tmp_path / "a2" / "model.safetensors")
    in_memory = {k.removeprefix("model."): v for k, v in reference.state_dict().items()}
    layouts = {
        "a": {k.replace("vision_tower.", "vision_tower.vision_model."): v for k, v in tensors.items()},
        "b": {("lm_head." + k.removeprefix("lm_head.")) if k.startswith("lm_head") else
              "model." + k.replace("vision_tower.", "vision_tower.vision_model."): v for k, v in in_memory.items()},
        "c": {k if k.startswith("lm_head") else "model." + k: v for k, v in in_memory.items()},
    }  # fmt: skip
    messages = CONVERSATIONS["two pictures and text between"]
    _, logits = theirs(reference, processor, messages)
    for name, renamed in layouts.items():
        folder = tmp_path / name
        llava_processor(folder)
        reference.config.save_pretrained(folder)
        save_file({k: v.contiguous().clone() for k, v in renamed.items()}, folder / "model.safetensors")
        assert relative(eyespot.load(folder).trace(messages).logits, logits) <= BAR["small"], name


@pytest.mark.parametrize("kind", KINDS)
def test_text_models_agree_alone(tmp_path, draw, kind):
    from tests.parity.references import CHATML, redraw, tokenizer

    classes = dict(
        llama=hf.LlamaForCausalLM, mistral=hf.MistralForCausalLM, qwen2=hf.Qwen2ForCausalLM, qwen3=hf.Qwen3ForCausalLM
    )
    reference = redraw(classes[kind](text_config(kind)), draw)
    reference.save_pretrained(tmp_path / "source")
    tok = tokenizer(tmp_path / "source", bos=kind in ("llama", "mistral"), template=CHATML)
    model = eyespot.load(tmp_path / "source")
    messages = [{"role": "user", "content": "What is left of the red star in the picture?"}]
    text = tok.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tok(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = reference(ids).logits[0]
    trace = model.trace(messages, add_generation_prompt=True)
    assert trace.input_ids.tolist() == ids[0].tolist()
    assert relative(trace.logits, logits) <= BAR[draw]
    eyespot.save(model, tmp_path / "export", layout="hf")
    again, info = classes[kind].from_pretrained(tmp_path / "export", dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    with torch.no_grad():
        assert relative(trace.logits, again(ids).logits[0]) <= BAR[draw]


def test_rope_scaling_of_llama3_and_linear_agrees(tmp_path, draw):
    from tests.parity.references import CHATML, redraw, tokenizer

    scalings = (
        {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 32, "rope_theta": 1e4},
    )  # fmt: skip
    for i, scaling in enumerate(scalings):
        reference = redraw(hf.LlamaForCausalLM(text_config("llama", rope_theta=None, rope_parameters=scaling)), draw)
        reference.save_pretrained(tmp_path / str(i))
        tok = tokenizer(tmp_path / str(i), bos=True, template=CHATML)
        messages = [{"role": "user", "content": "What is left of the red star in the picture?" * 3}]
        ids = tok(tok.apply_chat_template(messages, tokenize=False), return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = reference(ids).logits[0]
        assert relative(eyespot.load(tmp_path / str(i)).trace(messages).logits, logits) <= BAR[draw], scaling
