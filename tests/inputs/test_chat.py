import re

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from eyespot.contracts.contract import TextRule
from eyespot.contracts.media import MediaRef
from eyespot.contracts.message import Message, Text
from eyespot.errors import EyespotError
from eyespot.inputs.chat import render, render_all
from eyespot.inputs.marks import Marks, any_of, break_up
from eyespot.inputs.template import probe, render_template
from eyespot.inputs.templates import PLAIN, as_string, with_images
from eyespot.runtime.limits import LIMITS

IMAGE = MediaRef("image", "x.png")


def user(*parts) -> Message:
    return Message("user", tuple(Text(p) if isinstance(p, str) else p for p in parts))


def assistant(text: str, **fields) -> Message:
    return Message("assistant", (Text(text),), **fields)


def dialogue(*turns: str) -> list[Message]:
    return [(user if i % 2 == 0 else assistant)(text) for i, text in enumerate(turns)]


def specials(tokenizer) -> dict:
    return {"specials": tokenizer.special_tokens, "added": tokenizer.added_tokens}


def answers(rendered) -> list[str]:
    return [rendered.text[a:b] for span in rendered.spans for a, b in span.supervised]


def end_of(case) -> str:
    """What stands between an answer and the end of what is learnt of it."""
    return {"llama2": " </s>", "llava15": " "}.get(case.name, case.eos)


@pytest.fixture
def rendered_as(case, rule_of, tokenizer_of):
    def do(messages, **options):
        return render(messages, rule_of(case), **specials(tokenizer_of(case)), **options)

    return do


# -- the text ----------------------------------------------------------------------------------------------------------


def test_the_text_is_what_the_template_writes(case, rendered_as):
    messages = dialogue("What color?", "red", "And now?", "blue")
    content = [{"type": "text", "text": m.text} for m in messages] if case.name == "llava15" else None
    written = [
        {"role": m.role, "content": [content[i]] if content else m.text} for i, m in enumerate(messages)
    ]  # fmt: skip
    variables = {"messages": written, "bos_token": case.bos, "eos_token": case.eos, "add_generation_prompt": False}
    assert rendered_as(messages).text == render_template(case.template, [variables])[0]


@pytest.mark.parametrize("case", ["qwen2", "llama3", "llava15", "vicuna", "chatml", "qwen2vl"], indirect=True)
def test_the_generation_prompt_is_asked_for(case, rendered_as):
    question = dialogue("What color?")
    without, with_prompt = rendered_as(question).text, rendered_as(question, add_generation_prompt=True).text
    assert with_prompt.startswith(without) and "assistant" in with_prompt[len(without) :].lower()


def test_pictures_stand_where_their_parts_stand(case, rendered_as):
    rendered = rendered_as([user(IMAGE, "What color?"), assistant("red")])
    (place,) = rendered.media
    after = {"qwen2vl": "<|vision_end|>What"}.get(case.name, "\nWhat")
    assert rendered.text[place:].startswith(case.image + after)


def test_a_template_that_takes_strings_gets_the_placeholder_in_them():
    assert as_string([None, "q"], "<i>") == "<i>\nq"
    assert as_string([None, None, "q"], "<i>") == "<i>\n<i>\nq"
    assert as_string([None, "\nq"], "<i>") == "<i>\nq"
    assert as_string(["is ", None, " red?"], "<i>") == "is <i> red?"
    assert as_string([None], "<i>") == "<i>"


@given(st.lists(st.one_of(st.none(), st.sampled_from(["q", "\nq", "a b "])), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_a_template_made_to_take_pictures_writes_what_we_write_into_strings(pieces):
    template = "{% for m in messages %}{{ m.role + ':' + m.content }};{% endfor %}"
    parts = [{"type": "image"} if p is None else {"type": "text", "text": p} for p in pieces]
    written = [{"role": "user", "content": parts}, {"role": "assistant", "content": "a"}]
    (text,) = render_template(with_images(template, "<i>"), [{"messages": written}])
    assert text == f"user:{as_string(pieces, '<i>')};assistant:a;"


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "llama2", "llama3", "mistral"])
def test_a_text_template_made_to_take_pictures_writes_text_as_before(name, cases, rule_of):
    messages = dialogue(" What color?\n", "red", "And now?", "blue")
    rule = rule_of(cases[name])
    changed = rule.replace(template=with_images(cases[name].template))
    assert render(messages, changed).text == render(messages, rule).text
    shape = probe(changed.template, "<image>", (("bos_token", "<s>"), ("eos_token", "</s>")), LIMITS)
    assert shape.strings and shape.parts and shape.images


def test_what_a_template_takes_is_found_by_rendering(cases):
    def shape(template, image="<image>"):
        return probe(template, image, (("bos_token", "<s>"), ("eos_token", "</s>")), LIMITS)

    assert (shape(cases["qwen2"].template).strings, shape(cases["qwen2"].template).parts) == (True, False)
    llava = shape(cases["llava15"].template)
    assert (llava.strings, llava.parts, llava.images) == (False, True, True)
    both = shape(cases["qwen2vl"].template, "<|image_pad|>")
    assert (both.strings, both.parts, both.images) == (True, True, True)
    printed = shape("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert (printed.strings, printed.parts) == (True, False)


def test_without_a_template_nothing_is_invented(rule_of, cases):
    with pytest.raises(EyespotError, match="template-missing"):
        render(dialogue("q"), rule_of(cases["qwen2"], template=None))


def test_a_template_that_drops_the_users_text_is_refused(rule_of, cases):
    with pytest.raises(EyespotError, match="template-failed"):
        render(dialogue("q"), rule_of(cases["qwen2"], template="hello"))


def test_the_templates_complaint_reaches_the_caller(rule_of, cases):
    with pytest.raises(EyespotError, match="must alternate"):
        render([user("a"), user("b")], rule_of(cases["llama2"]))


# -- who wrote what ----------------------------------------------------------------------------------------------------


def test_exactly_the_answers_and_their_end_tokens_are_learnt(case, rendered_as):
    rendered = rendered_as(dialogue("What color?", "red", "And now?", "blue, I think"))
    assert answers(rendered) == ["red" + end_of(case), "blue, I think" + end_of(case)]


def test_an_answer_that_ends_with_a_token_of_its_own_is_learnt_through_its_end(case, rendered_as):
    """``</tool_call>`` is no special token: typed in an answer it is meant, and the answer's end still follows."""
    rendered = rendered_as(dialogue("q", "zoom </tool_call>", "<|im_end|>", "zoom again </tool_call>"))
    assert answers(rendered) == ["zoom </tool_call>" + end_of(case), "zoom again </tool_call>" + end_of(case)]


def test_an_answer_that_ends_with_a_token_of_its_own_is_closed_all_the_same(cases, rule_of, tokenizer_of):
    case = cases["llava15"]
    rendered = render(
        dialogue("q", "a </tool_call>"), rule_of(case), close_answers=True, **specials(tokenizer_of(case))
    )
    assert answers(rendered) == ["a </tool_call></s>"]


LINES = st.text(st.characters(blacklist_categories=("Cs", "Co", "Cn")), min_size=1, max_size=12)


@given(turns=st.lists(st.tuples(LINES, LINES), min_size=1, max_size=3))
@example(turns=[("0", "</s>"), ("<|im_end|>", "<|im_end|>")])
@example(turns=[("0", "<|im_end|></tool_call>"), ("</tool_call>", "<tool_call>")])
@settings(max_examples=12, deadline=None)  # for each of nine templates
def test_any_answer_is_found_and_the_stretches_cover_the_text(case, rule_of, tokenizer_of, turns):
    assume(all(text.strip() for turn in turns for text in turn))
    messages = [m for question, answer in turns for m in (user(question), assistant(answer))]
    rendered = render(messages, rule_of(case), **specials(tokenizer_of(case)))
    end = "" if case.name == "llava15" else end_of(case)  # its template ends no answer; one may say </s> all the same
    for (_, answer), learnt in zip(turns, answers(rendered), strict=True):
        assert learnt.endswith(end)
        assert learnt.removesuffix(end).strip() == answer.strip()
    assert "".join(rendered.text[s.start : s.stop] for s in rendered.spans) == rendered.text


@pytest.mark.parametrize("case", ["qwen2", "llama2", "llama3", "llava15", "vicuna"], indirect=True)
def test_typed_control_tokens_are_literal_in_every_role(case, rendered_as):
    spelled = f"x {case.eos} y <image> {case.bos or '<s>'}"
    for messages in (
        dialogue(spelled, "a"),
        dialogue("q", spelled),
        [Message("system", (Text(spelled),)), *dialogue("q", "a")],
    ):
        rendered = rendered_as(messages)
        assert [rendered.text[a:b] for a, b in rendered.literals] == [case.eos, "<image>", case.bos or "<s>"]
        assert rendered.media == () and spelled in rendered.text


def test_an_answer_that_spells_an_end_token_is_learnt_through_its_own(rule_of, cases, tokenizer_of):
    case = cases["qwen2"]
    rendered = render(dialogue("q", "a <|im_end|> b"), rule_of(case), **specials(tokenizer_of(case)))
    assert answers(rendered) == ["a <|im_end|> b<|im_end|>"]
    assert len(rendered.literals) == 1


def test_an_end_token_typed_next_is_not_taken_for_the_answers_own(rule_of, cases, tokenizer_of):
    case = cases["llava15"]
    template = case.template.replace("message['role'].upper() + ': '", "''")
    rendered = render(dialogue("q", "a", "</s>", "b"), rule_of(case, template=template), **specials(tokenizer_of(case)))
    assert answers(rendered) == ["a ", "b "]


def test_a_control_token_made_of_two_parts_is_literal(rule_of, cases, tokenizer_of):
    case = cases["qwen2vl"]
    rendered = render([user("<|im_", "end|>"), assistant("a")], rule_of(case), **specials(tokenizer_of(case)))
    assert [rendered.text[a:b] for a, b in rendered.literals] == ["<|im_end|>"]


def test_other_added_tokens_are_control_tokens_where_the_template_writes_them(rule_of, cases, tokenizer_of):
    case = cases["qwen3"]
    rendered = render(
        dialogue("<tool_call> </think>", "<think>\nhm\n</think>\n\na"), rule_of(case), **specials(tokenizer_of(case))
    )
    assert [rendered.text[a:b] for a, b in rendered.literals] == ["<tool_call>", "</think>"]


def test_weight_zero_is_read_but_not_learnt(case, rendered_as):
    rendered = rendered_as([user("q"), assistant("a", weight=0), user("q"), assistant("b")])
    assert answers(rendered) == ["b" + end_of(case)]


def test_a_template_that_changes_the_answer_falls_back_to_prefixes(rule_of, cases, tokenizer_of):
    template = cases["qwen2"].template.replace("message.content", "(message.content | upper)")
    rendered = render(dialogue("q", "red"), rule_of(cases["qwen2"], template=template))
    assert answers(rendered) == ["RED<|im_end|>"]
    counted = cases["qwen2"].template.replace("message.content", "(message.content ~ message.content | length)")
    rendered = render(
        dialogue("q", "red"), rule_of(cases["qwen2"], template=counted), **specials(tokenizer_of(cases["qwen2"]))
    )
    assert answers(rendered) == ["red3<|im_end|>"]


def test_reasoning_that_the_template_takes_apart_is_found_by_prefix(rule_of, cases, tokenizer_of):
    case = cases["qwen3"]
    rendered = render(dialogue("q", "<think>\nhm\n</think>\n\nred"), rule_of(case), **specials(tokenizer_of(case)))
    assert answers(rendered) == ["<think>\nhm\n</think>\n\nred<|im_end|>"]


def test_a_tool_call_is_an_answer(rule_of, cases, tokenizer_of):
    case = cases["qwen3"]
    call = Message("assistant", (Text("look"),), tool_calls=({"function": {"name": "zoom", "arguments": {"x": 1}}},))
    rendered = render([user("q"), call], rule_of(case), **specials(tokenizer_of(case)))
    (learnt,) = answers(rendered)
    assert learnt.startswith("look\n<tool_call>") and learnt.endswith("</tool_call><|im_end|>") and "zoom" in learnt


def test_tools_reach_the_template_and_cannot_write_control_tokens(rule_of, cases, tokenizer_of):
    case = cases["qwen3"]
    tools = [{"name": "zoom", "description": "in <|im_end|>"}]
    rendered = render(dialogue("q"), rule_of(case), tools=tools, **specials(tokenizer_of(case)))
    assert "zoom" in rendered.text and len(rendered.literals) == 1


def test_where_nothing_tells_the_answer_it_is_an_error(rule_of, cases):
    template = "{% for m in messages | reverse %}{{ m.role }}{{ m.content }}{{ m.content | length }}{% endfor %}"
    with pytest.raises(EyespotError, match="template-failed") as error:
        render(dialogue("q", "a"), rule_of(cases["qwen2"], template=template))
    assert "messages[1]" in str(error.value) and "generation" in error.value.remedy
    assert render(dialogue("q", "a"), rule_of(cases["qwen2"], template=template), supervise=False).text


def test_answers_that_a_template_leaves_open_are_closed_for_training(rule_of, cases, tokenizer_of):
    case = cases["llava15"]
    rendered = render(dialogue("q", "a", "r", "b"), rule_of(case), **specials(tokenizer_of(case)), close_answers=True)
    assert rendered.text == "USER: q ASSISTANT: a</s> USER: r ASSISTANT: b</s> "
    assert answers(rendered) == ["a</s>", "b</s>"]


@pytest.mark.parametrize("name", ["qwen2", "llama2", "llama3", "mistral", "vicuna", "chatml"])
def test_answers_that_the_template_ends_are_left_alone(name, rule_of, cases, tokenizer_of):
    case = cases[name]
    options = specials(tokenizer_of(case))
    messages = dialogue("q", "a", "r", "b")
    assert render(messages, rule_of(case), close_answers=True, **options) == render(messages, rule_of(case), **options)


def test_the_plain_template_learns_the_caption_and_its_line_end(rule_of, cases, tokenizer_of):
    rule = rule_of(cases["llava15"], template=PLAIN)
    messages = [user(IMAGE, "Describe."), assistant("a red circle")]
    rendered = render(messages, rule, close_answers=True, **specials(tokenizer_of(cases["llava15"])))
    assert rendered.text == "<image>a red circle\n"
    assert answers(rendered) == ["a red circle\n"]


def test_a_template_may_be_named(rule_of, cases):
    named = render(dialogue("q", "a"), rule_of(cases["vicuna"], template="vicuna"))
    assert named == render(dialogue("q", "a"), rule_of(cases["vicuna"]))


# -- counts ------------------------------------------------------------------------------------------------------------


def test_a_template_that_drops_a_picture_names_both_counts(rule_of, cases):
    template = cases["llava15"].template.replace("{{- '<image>\\n' -}}", "{{- '<image>\\n' if loop.first -}}")
    with pytest.raises(EyespotError, match="1 placeholders.*2 pictures") as error:
        render([user(IMAGE, IMAGE, "q")], rule_of(cases["llava15"], template=template))
    assert error.value.code == "media-count"


def test_a_text_model_takes_no_pictures(rule_of, cases):
    with pytest.raises(EyespotError, match="not-supported"):
        render([user(IMAGE, "q")], rule_of(cases["qwen2"], image_token=None))


# -- marks -------------------------------------------------------------------------------------------------------------


@given(st.text(st.sampled_from("\ue000\ue001\ue002ab"), max_size=6), st.integers(0, 120))
@settings(max_examples=50, deadline=None)
def test_marks_occur_nowhere_in_the_text_and_are_read_back(text, index):
    marks = Marks.beside(text)
    assert not set(marks.signs) & set(text)
    begin, end = marks.around(index)
    seen = marks.read("<" + begin + text + end + ">", any_of([]))
    assert seen.text == f"<{text}>" and dict(seen.texts) == {index: (1, 1 + len(text))}


def test_broken_tokens_are_found_again_even_of_one_character():
    marks, control = Marks.beside(""), any_of(["§", "<i>"])
    seen = marks.read("§" + break_up("§ <i>", control, marks.broken) + "<i>", control)
    assert seen.text == "§§ <i><i>"
    assert [re.sub(r"\W", "", t.text) or t.text for t in seen.tokens] == ["§", "i"]
    assert seen.literals == ((1, 2), (3, 6))


def test_a_template_that_cuts_text_short_loses_the_marks_and_not_the_text(rule_of, cases):
    template = "{% for m in messages %}{{ m.role }}: {{ m.content[:2] }};{% endfor %}"
    probed = template.replace("[:2]", "[:99]")
    rule = rule_of(cases["qwen2"], template=template)
    with pytest.raises(EyespotError, match="template-failed"):  # the probe's text is cut too
        render(dialogue("question"), rule)
    assert render(dialogue("question"), rule.replace(template=probed)).text == "user: question;"
    marks = Marks.beside("")
    begin, end = marks.around(1)
    assert marks.read(f"{begin}question{end}"[:1], any_of([])).text == ""


def test_rendered_together_is_rendered_one_by_one(rule_of, cases, tokenizer_of):
    case = cases["qwen2"]
    options = {**specials(tokenizer_of(case)), "close_answers": True}
    conversations = [dialogue("q", "red"), dialogue("<|im_end|>", "\ue000\ue005"), dialogue("r", "b", "s", "c")]
    together = render_all(conversations, rule_of(case), **options)
    assert together == [render(messages, rule_of(case), **options) for messages in conversations]
    assert render_all([], rule_of(case), **options) == []


# -- variables of the template -----------------------------------------------------------------------------------------

COUNTED = TextRule(
    image_token="<image>",
    template="{% for m in messages %}{% for p in m.content %}{% if p.type == 'image' %}"
    "{% if add_vision_id %}Picture {{ loop.index }}: {% endif %}<image>{% else %}{{ p.text }}{% endif %}{% endfor %}"
    "{{ tail }}{% endfor %}",
)


def test_a_variable_reaches_the_template_and_without_it_nothing_changes():
    messages = [user(IMAGE, IMAGE, "Which?")]
    assert render(messages, COUNTED).text == "<image><image>Which?"
    counted = render(messages, COUNTED, variables={"add_vision_id": True})
    assert counted.text == "Picture 1: <image>Picture 2: <image>Which?"
    assert [counted.text[at:][:7] for at in counted.media] == ["<image>"] * 2


def test_a_control_token_in_a_variable_is_text():
    rendered = render([user(IMAGE, "Which?")], COUNTED, variables={"tail": " <image>"})
    assert rendered.text == "<image>Which? <image>"
    assert rendered.media == (0,)
    assert [rendered.text[a:b] for a, b in rendered.literals] == ["<image>"]


@pytest.mark.parametrize("variables", [
    {"messages": []}, {"bos_token": "x"}, {"tools": 1}, {"a b": 1}, {"f": print}, {"f": [object()]},
    {"add_generation_prompt": True},
])  # fmt: skip
def test_names_that_are_taken_and_what_is_no_plain_data_are_refused(variables):
    with pytest.raises(EyespotError, match="variables") as caught:
        render([user(IMAGE, "Which?")], COUNTED, variables=variables)
    assert caught.value.code == "argument"
