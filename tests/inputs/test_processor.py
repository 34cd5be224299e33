import pickle

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eyespot.contracts.contract import Contract, ImageRule, TextRule
from eyespot.contracts.coordinates import BoxAbs, PointAbs
from eyespot.contracts.media import MediaRef
from eyespot.contracts.message import Example, Message, Text
from eyespot.errors import EyespotError
from eyespot.inputs.chat import render
from eyespot.inputs.contrastive import clean_text
from eyespot.inputs.messages import read_messages
from eyespot.inputs.processor import Processor
from eyespot.inputs.templates import PLAIN
from eyespot.inputs.tokenizer import words
from eyespot.runtime.limits import LIMITS

PICTURE = np.full((40, 60, 3), 90, np.uint8)
IMAGE = MediaRef("image", PICTURE)
TEXT = st.text(st.characters(blacklist_categories=("Cs", "Co", "Cn")), min_size=1, max_size=10).filter(str.strip)
TYPED = st.sampled_from(["<image>", "<|im_end|>", "</s>", "<|image_pad|>", "<s>", "<|eot_id|>"])
SPELT = st.lists(st.one_of(TYPED, st.sampled_from(["What", " ", "그림", "\n"])), min_size=1, max_size=5).map("".join)


def user(*parts) -> Message:
    return Message("user", tuple(Text(p) if isinstance(p, str) else p for p in parts))


def assistant(*parts, **fields) -> Message:
    return Message("assistant", tuple(Text(p) if isinstance(p, str) else p for p in parts), **fields)


def system(text: str) -> Message:
    return Message("system", (Text(text),))


def text_of(processor: Processor, ids) -> str:
    return processor.tokenizer.decode(ids, skip_special=False)


def learnt(processor: Processor, encoded) -> list[str]:
    """Each run of supervised tokens as text."""
    on = encoded.loss_weight > 0
    borders = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]])))
    return [text_of(processor, encoded.input_ids[a:b]) for a, b in borders.reshape(-1, 2)]


def refused(code: str, function, *args, **kwargs) -> EyespotError:
    with pytest.raises(EyespotError) as error:
        function(*args, **kwargs)
    assert error.value.code == code, error.value
    return error.value


@pytest.fixture(scope="session")
def vicuna(cases, processor_of) -> Processor:
    return processor_of(cases["vicuna"])


@pytest.fixture(scope="session")
def chatml(cases, processor_of) -> Processor:
    return processor_of(cases["chatml"])


# -- one conversation --------------------------------------------------------------------------------------------------


@given(turns=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3))
@settings(max_examples=10, deadline=None)
def test_learnt_tokens_decode_to_the_answers_and_their_end(case, processor_of, turns):
    processor = processor_of(case)
    messages = [m for q, a in turns for m in (user(q), assistant(a))]
    encoded = processor.encode(messages)
    found = learnt(processor, encoded)
    assert len(found) == len(turns)
    for (_, answer), text in zip(turns, found, strict=True):
        # A token across the border belongs to the answer, so it may bring the template's text before it along.
        assert answer.strip() in text
        assert text.endswith(case.eos) or case.name == "llava15"
    assert len(encoded.input_ids) == sum(s.stop - s.start for s in encoded.spans)


@given(question=SPELT, answer=SPELT)
@settings(max_examples=10, deadline=None)
def test_typed_control_tokens_become_ordinary_text(case, processor_of, question, answer):
    assume(question.strip() and answer.strip())
    processor, image = processor_of(case), processor_of(case).tokenizer.id_of(case.image)
    encoded = processor.encode([user(IMAGE, question), assistant(answer)])
    plain = processor.encode([user(IMAGE, "q"), assistant("a")])
    specials = [processor.tokenizer.id_of(t) for t in processor.tokenizer.special_tokens]
    for token in specials:
        assert (encoded.input_ids == token).sum() == (plain.input_ids == token).sum()
    assert (encoded.input_ids == image).sum() == 4
    assert answer.strip() in text_of(processor, encoded.input_ids[encoded.loss_weight > 0])


@given(turns=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=2))
@settings(max_examples=8, deadline=None)
def test_the_whole_text_is_tokenised_in_one_call(case, processor_of, rule_of, turns):
    processor = processor_of(case)
    messages = [m for q, a in turns for m in (user(q), assistant(a))]
    text = render(messages, rule_of(case)).text
    begun = case.bos is not None and text.startswith(case.bos)
    ids = processor.tokenizer.encode(text, add_special_tokens=not begun).ids
    assert processor.encode(messages).input_ids.tolist() == ids


@pytest.mark.parametrize("case", ["llama2", "llama3", "mistral", "llava15", "vicuna"], indirect=True)
def test_bos_is_there_once(case, processor_of):
    processor = processor_of(case)
    ids = processor.encode([user("q"), assistant("a")]).input_ids
    assert ids[0] == processor.tokenizer.id_of(case.bos) and (ids == ids[0]).sum() == 1


def test_a_typed_bos_in_front_does_not_count_as_one(cases, processor_of):
    processor = processor_of(cases["llava15"], template="{% for m in messages %}{{ m.content }}{% endfor %}")
    ids = processor.encode([user("<s> hello")], add_generation_prompt=True).input_ids
    assert ids[0] == 1 and (ids == 1).sum() == 1


def test_inference_is_the_start_of_training(vicuna):
    prompt = vicuna.encode([user(IMAGE, "What color?")], add_generation_prompt=True).input_ids
    whole = vicuna.encode([user(IMAGE, "What color?"), assistant("red")])
    assert whole.input_ids[: len(prompt)].tolist() == prompt.tolist()
    assert not whole.loss_weight[: len(prompt)].any() and whole.loss_weight[len(prompt) :].all()


def test_a_picture_takes_a_token_for_each_patch(vicuna):
    encoded = vicuna.encode([user(IMAGE, "q"), assistant("a")])
    (medium,) = encoded.media
    assert len(medium.slots) == 4 == medium.grid_thw.prod()
    assert set(encoded.input_ids[medium.slots]) == {vicuna.tokenizer.id_of("<image>")}
    assert not encoded.loss_weight[medium.slots].any()


@pytest.mark.parametrize(("changes", "count"), [({"extra_tokens": 1}, 5), ({"tokens_per_image": 7}, 7)])
def test_more_or_fewer_tokens_than_patches_are_as_the_contract_says(vicuna, changes, count):
    contract = vicuna.contract.replace(image=vicuna.contract.image.replace(**changes))
    encoded = Processor(contract, vicuna.tokenizer).encode([user(IMAGE, "q"), assistant("a")])
    assert len(encoded.media[0].slots) == count


def test_several_pictures_have_their_own_slots_in_order(vicuna):
    other = MediaRef("image", np.zeros((30, 30, 3), np.uint8))
    encoded = vicuna.encode([user(IMAGE, other, "q"), assistant("a"), user("r", IMAGE), assistant("b")])
    slots = np.concatenate([m.slots for m in encoded.media])
    assert slots.tolist() == np.flatnonzero(encoded.input_ids == vicuna.tokenizer.id_of("<image>")).tolist()
    assert encoded.media[0].sha256 == encoded.media[2].sha256 != encoded.media[1].sha256


def test_weights_scale_what_is_learnt(chatml):
    encoded = chatml.encode([user("q"), assistant("a", weight=0.5), user("q"), assistant("b", weight=0)])
    assert set(encoded.loss_weight.tolist()) == {0.0, 0.5}


def test_spans_say_who_speaks_and_what_is_learnt(chatml):
    encoded = chatml.encode([system("be brief"), user("q"), assistant("a")])
    assert [(s.role, s.supervised) for s in encoded.spans] == [
        ("system", False), ("user", False), ("assistant", False), ("assistant", True), ("assistant", False)
    ]  # fmt: skip
    assert [s.start for s in encoded.spans[1:]] == [s.stop for s in encoded.spans[:-1]]


def test_a_template_can_be_given_for_one_call(chatml):
    messages = [user(IMAGE, "q"), assistant("a red circle")]
    encoded = chatml.encode(messages, template="plain")
    assert text_of(chatml, encoded.input_ids) == "<image>" * 4 + "a red circle\n"
    assert encoded.input_ids.tolist() == chatml.encode(messages, template=PLAIN).input_ids.tolist()


def test_kept_conversations_are_those_made_anew(vicuna):
    messages = [user(IMAGE, "What color?"), assistant("red")]
    fresh = Processor(vicuna.contract, vicuna.tokenizer)
    first, second = fresh.encode(messages), fresh.encode(messages)
    for name in ("input_ids", "loss_weight"):
        assert getattr(first, name).tolist() == getattr(second, name).tolist()
    other = fresh.encode([messages[0], assistant("red", weight=0.25)])
    assert other.loss_weight.max() == 0.25 and other.input_ids.tolist() == first.input_ids.tolist()


def test_a_processor_travels_to_other_processes(vicuna):
    messages = [user(IMAGE, "q"), assistant("a")]
    copy = pickle.loads(pickle.dumps(vicuna))
    assert copy.encode(messages).input_ids.tolist() == vicuna.encode(messages).input_ids.tolist()


def test_a_processor_survives_the_disk(vicuna, tmp_path):
    vicuna.save(tmp_path)
    loaded = Processor.load(tmp_path, vicuna.contract)
    messages = [user("What color?"), assistant("red")]
    assert loaded.encode(messages).input_ids.tolist() == vicuna.encode(messages).input_ids.tolist()


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_errors_name_the_sample_and_the_picture(vicuna):
    messages = [user(IMAGE, MediaRef("image", "absent.png"), "q"), assistant("a")]
    error = refused("media-missing", vicuna.encode, messages, sample_id="row-7")
    assert "row-7" in error.where and "image 1" in error.where


def test_an_image_part_without_a_picture_is_refused(vicuna):
    refused("media-count", vicuna.encode, [user(MediaRef("image"), "q")])


def test_a_text_model_takes_no_pictures(vicuna):
    processor = Processor(vicuna.contract.replace(image=None), vicuna.tokenizer)
    refused("not-supported", processor.encode, [user(IMAGE, "q")])


def test_a_vision_tower_takes_no_text():
    refused("not-supported", Processor(Contract(image=ImageRule())).encode, [user("q")])


def test_a_picture_is_the_only_medium(vicuna):
    refused("not-supported", vicuna.encode, [user(MediaRef("video", "x.mp4"), "q")])


def test_too_many_pictures_are_refused(vicuna):
    refused("media-too-large", vicuna.encode, [user(IMAGE, IMAGE, "q")], limits=LIMITS.replace(max_images=1))
    refused("media-too-large", vicuna.encode, [user(IMAGE, IMAGE, "q")], limits=LIMITS.replace(max_total_pixels=4000))


def test_a_placeholder_that_is_no_token_is_refused(cases, processor_of):
    processor = processor_of(cases["vicuna"], image_token="<nothing>")
    refused("tokenizer-token", processor.encode, [user(IMAGE, "q")], add_generation_prompt=True)


def test_no_template_is_invented(cases, processor_of):
    processor = processor_of(cases["vicuna"], template=None)
    refused("template-missing", processor.encode, [user("q")])
    assert processor.encode([user("q")], template="vicuna").input_ids.size


def test_a_row_without_an_answer_is_no_training_row(vicuna):
    error = refused("row-no-answer", vicuna.encode_example, Example("row-1", (user("q"),)))
    assert "row-1" in error.where


def test_a_row_of_which_nothing_is_learnt_names_itself(vicuna):
    row = Example("row-2", (user("q"), assistant("a", weight=0)))
    assert "row-2" in refused("row-unsupervised", vicuna.encode_example, row).where
    assert vicuna.encode(row.messages).supervised == 0


def test_training_rows_end_their_answers(cases, processor_of):
    processor = processor_of(cases["llava15"])
    row = Example("r", (user(IMAGE, "What color?"), assistant("red")))
    assert [t.lstrip() for t in learnt(processor, processor.encode_example(row))] == ["red</s>"]
    assert "</s>" not in text_of(processor, processor.encode(row.messages).input_ids)


# -- length ------------------------------------------------------------------------------------------------------------


def test_truncation_takes_whole_tokens_from_the_end_and_counts_them(vicuna):
    messages = [user(IMAGE, "What color?"), assistant("red, I think, or perhaps it is blue")]
    whole = vicuna.encode(messages)
    for length in range(len(whole.input_ids) - whole.supervised + 1, len(whole.input_ids) + 3):
        cut = vicuna.encode(messages, max_length=length)
        assert cut.input_ids.tolist() == whole.input_ids[:length].tolist()
        assert len(cut.input_ids) + cut.truncated == len(whole.input_ids)
        assert cut.spans[-1].stop == len(cut.input_ids)


@given(length=st.integers(1, 200))
@settings(max_examples=50, deadline=None)
def test_no_length_cuts_a_picture(chatml, length):
    messages = [user("a", IMAGE, "q"), assistant("red"), user(IMAGE, "r"), assistant("blue")]
    try:
        encoded = chatml.encode(messages, max_length=length)
    except EyespotError as error:
        assert error.code in ("too-long", "row-unsupervised")
        return
    assert [len(m.slots) for m in encoded.media] == [4, 4]
    assert encoded.media[-1].slots[-1] < len(encoded.input_ids) <= max(length, 0)


def test_a_row_cut_before_its_answer_names_itself(vicuna):
    messages = [user("What color is the circle on the left?"), assistant("red")]
    learnt_from = int(np.argmax(vicuna.encode(messages).loss_weight > 0))
    error = refused("row-unsupervised", vicuna.encode, messages, max_length=learnt_from, sample_id="row-3")
    assert "row-3" in error.where


def test_a_prompt_is_never_cut(vicuna):
    error = refused("too-long", vicuna.encode, [user("What color?")], add_generation_prompt=True, max_length=5)
    assert "5" in error.message


# -- independent turns -------------------------------------------------------------------------------------------------


def paths(encoded) -> list[np.ndarray]:
    """Ids from root to leaf of every branch."""
    borders = np.cumsum([0, *encoded.lengths])
    segments = [encoded.input_ids[a:b] for a, b in zip(borders, borders[1:], strict=False)]
    leaves = [i for i in range(len(segments)) if i not in encoded.parent]
    return [
        np.concatenate([segments[encoded.parent[i]], segments[i]]) if encoded.parent[i] >= 0 else segments[i]
        for i in leaves
    ]


@given(turns=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4), spoken=st.booleans(), pictured=st.booleans())
@settings(max_examples=10, deadline=None)
def test_prefix_and_branch_are_what_the_pair_alone_is(case, processor_of, turns, spoken, pictured):
    processor = processor_of(case)
    head = [system("Be brief.")] if spoken and case.system else []
    media = [IMAGE] if pictured else []
    row = [m for i, (q, a) in enumerate(turns) for m in (user(*(media if i == 0 else []), q), assistant(a))]
    encoded = processor.encode([*head, *row], turns="independent")
    branches = paths(encoded)
    assert len(branches) == len(turns)
    for (question, answer), ids in zip(turns, branches, strict=True):
        alone = processor.encode([*head, user(*media, question), assistant(answer)])
        assert ids.tolist() == alone.input_ids.tolist()
    total = sum(processor.encode([*head, user(*media, q), assistant(a)]).loss_weight.sum() for q, a in turns)
    assert encoded.loss_weight.sum() == total
    starts = np.cumsum([0, *encoded.lengths])[:-1]
    assert not encoded.loss_weight[starts].any()


def test_the_picture_is_encoded_once_for_all_its_questions(case, processor_of):
    processor = processor_of(case)
    row = [
        user(IMAGE, "What color?"),
        assistant("red"),
        user("How many?"),
        assistant("3"),
        user("Why?"),
        assistant("a"),
    ]
    encoded = processor.encode(row, turns="independent")
    assert encoded.parent == (-1, 0, 0, 0)
    assert len(encoded.media) == 1 and encoded.media[0].slots[-1] < encoded.lengths[0]
    assert not encoded.loss_weight[: encoded.lengths[0]].any()


def test_a_later_pair_may_repeat_the_picture_but_not_have_another(vicuna):
    row = [user(IMAGE, "q"), assistant("a"), user(IMAGE, "r"), assistant("b")]
    short = [row[0], row[1], user("r"), row[3]]
    same = vicuna.encode(row, turns="independent")
    assert same.input_ids.tolist() == vicuna.encode(short, turns="independent").input_ids.tolist()
    row[2] = user(MediaRef("image", "other.png"), "r")
    refused("message-malformed", vicuna.encode, row, turns="independent")


def test_text_before_the_picture_makes_separate_roots_with_their_own_copies(vicuna):
    row = [user("Look: ", IMAGE, "What color?"), assistant("red"), user("How many?"), assistant("3")]
    encoded = vicuna.encode([row[0], row[1]], turns="independent")
    assert encoded.parent == (-1,) and len(encoded.media) == 1
    template = (
        "{% for m in messages %}{{ m.role }}:{% if m.content is string %}{{ m.content }}{% else %}"
        "{% for p in m.content if p.type == 'text' %}{{ p.text }}{% endfor %}"
        "{% for p in m.content if p.type == 'image' %}<image>{% endfor %}{% endif %};{% endfor %}"
    )
    row[0] = user(IMAGE, "What color?")
    encoded = vicuna.encode(row, turns="independent", template=template)
    assert encoded.parent == (-1, -1) and len(encoded.media) == 2
    for medium in encoded.media:
        assert set(encoded.input_ids[medium.slots]) == {vicuna.tokenizer.id_of("<image>")}


@pytest.mark.parametrize("roles", [["user"], ["user", "user"], ["assistant", "user"], ["user", "assistant", "system"]])
def test_independent_turns_are_pairs(vicuna, roles):
    messages = [Message(role, (Text("x"),)) for role in roles]
    refused("message-malformed", vicuna.encode, messages, turns="independent")


def test_branches_that_do_not_fit_are_left_out_whole_and_counted(vicuna):
    row = [
        user(IMAGE, "q"),
        assistant("a"),
        user("What color is the circle?"),
        assistant("red"),
        user("r"),
        assistant("b"),
    ]
    whole = vicuna.encode(row, turns="independent")
    cut = vicuna.encode(row, turns="independent", max_length=len(whole.input_ids) - 1)
    assert cut.lengths == (whole.lengths[0], whole.lengths[1], whole.lengths[2])
    assert cut.truncated == whole.lengths[3]
    refused("too-long", vicuna.encode, row, turns="independent", max_length=whole.lengths[0] + 1)


# -- places ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "box", "point"),
    [
        ("unit", "[0.00, 0.00, 0.50, 1.00]", "[0.25, 0.50]"),
        ("thousand", "[0, 0, 500, 1000]", "[250, 500]"),
        ("abs", "[0, 0, 14, 28]", "[7, 14]"),
    ],
)
def test_places_are_written_on_the_picture_that_the_model_sees(cases, processor_of, form, box, point):
    processor = processor_of(cases["chatml"], coordinates=form)
    # 60 × 40 is resized to 42 × 28 and cropped to its middle 28 columns: 10 to 50 of the original.
    messages = [user(IMAGE, "Where is it?"), assistant("At ", BoxAbs(0, -3, 30, 40), ", ", PointAbs(20, 20), ".")]
    encoded = processor.encode(messages)
    assert learnt(processor, encoded) == [f"At {box}, {point}.<|im_end|>"]


def test_a_place_belongs_to_the_picture_before_it(cases, processor_of):
    processor = processor_of(cases["chatml"])
    other = MediaRef("image", np.zeros((100, 100, 3), np.uint8))
    encoded = processor.encode([user(IMAGE, other, "Where?"), assistant(BoxAbs(0, 0, 50, 50))])
    assert learnt(processor, encoded) == ["[0.00, 0.00, 0.50, 0.50]<|im_end|>"]


def test_a_place_without_a_picture_is_refused(chatml):
    refused("message-malformed", chatml.encode, [user("Where?"), assistant(BoxAbs(0, 0, 1, 1))])


# -- contrastive texts -------------------------------------------------------------------------------------------------


def dual(**rule) -> Processor:
    tokenizer = words(["a photo of a cat", "dog"], ["<s>", "</s>", "<pad>"])
    tokenizer = type(tokenizer)(
        tokenizer._data, {**tokenizer.config, "add_bos_token": rule.pop("bos", False), "add_eos_token": True}
    )
    text = TextRule(**{"eos_token": "</s>", "pad_token": "<pad>", "max_length": 8, "pad_to_max": True, **rule})
    return Processor(Contract(text=text), tokenizer)


def test_captions_are_padded_to_the_length():
    processor = dual(bos=True)
    ids = processor.encode_texts(["a photo", "dog"])
    assert ids.shape == (2, 8)
    assert text_of(processor, ids[0].tolist()) == "<s>a photo</s>" + "<pad>" * 4


def test_a_long_caption_keeps_its_end_token():
    processor = dual(bos=True)
    ids = processor.encode_texts(["a photo of a cat of a dog of a cat"])[0].tolist()
    assert len(ids) == 8 and ids[0] == 0 and ids[-1] == 1


def test_siglip_drops_case_punctuation_and_spare_spaces():
    processor = dual(clean="siglip")
    clean = processor.encode_texts(["a photo of a cat"])
    assert processor.encode_texts(["  A  photo,\tof a\n(CAT)! "]).tolist() == clean.tolist()


def test_siglip_2_drops_case_and_nothing_else():
    processor = dual(clean="lower")
    assert (
        processor.encode_texts(["A  Photo, of a (CAT)!"]).tolist()
        == dual().encode_texts(["a  photo, of a (cat)!"]).tolist()
    )
    assert clean_text("ΣΑΣ İ", "lower") == "σασ i̇"
    assert clean_text("Great_white  shark!", "siglip") == "greatwhite shark"
    assert clean_text("Great_white  shark!", "canonicalize") == "great white shark"


def test_without_padding_the_longest_caption_decides():
    assert dual(pad_to_max=False).encode_texts(["dog", "a photo of"]).shape == (2, 4)


def test_a_caption_that_is_no_text_is_refused():
    refused("argument", dual().encode_texts, [])


def test_messages_read_and_encoded_agree_with_those_built(vicuna):
    read = read_messages([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], [PICTURE])
    built = [user(IMAGE, "q"), assistant("a")]
    assert vicuna.encode(read).input_ids.tolist() == vicuna.encode(built).input_ids.tolist()
