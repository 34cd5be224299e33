"""Frames → a video → patches: order, repetition, seconds, refusals, and conversations with both kinds of media."""

import numpy as np
import pytest
from PIL import Image

from eyespot.contracts.contract import Contract, FrameRule, ImageRule, TextRule
from eyespot.data.packing import pack
from eyespot.errors import EyespotError
from eyespot.inputs.decode import decode_image
from eyespot.inputs.frames import choose_frames
from eyespot.inputs.messages import read_messages
from eyespot.inputs.patches import prepare_image
from eyespot.inputs.processor import Processor
from eyespot.inputs.tokenizer import words
from eyespot.inputs.video import decode_video, prepare_video
from eyespot.runtime.limits import LIMITS
from tests.films import film

RULE = ImageRule(
    resize="dynamic", crop=False, patch_size=2, merge_size=2, temporal_patch_size=2, min_pixels=16, max_pixels=4096,
    scale=1.0, normalize=False, positions="grid",
)  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% else %}"
    "{{ '<' + p.type + '>' }}{% endif %}{% endfor %}\n{% endfor %}"
)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def frames(count: int, height: int = 8, width: int = 12) -> list[np.ndarray]:
    return [noise(height, width, i) for i in range(count)]


def processor(**changes) -> Processor:
    text = TextRule(
        template=TEMPLATE, image_token="<image>", image_token_id=1, video_token="<video>", video_token_id=2,
        add_special_tokens=False,
    )  # fmt: skip
    contract = Contract(image=RULE, text=text, video=RULE.replace(tokens_per_second=2.0))
    return Processor(contract.replace(**changes), words(["What is it?"], ["<unk>", "<image>", "<video>"]))


def conversation(*parts) -> tuple:
    made = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
    return read_messages([{"role": "user", "content": made}])


def test_patches_hold_their_frames_and_the_last_is_repeated():
    given = frames(3)
    encoded = prepare_video(decode_video(given, 2.0), RULE)
    assert encoded.grid_thw.tolist() == [[2, 4, 6]]
    patches = encoded.patches.reshape(2, 24, 3, 2, 2, 2)
    for time, row, (y, x) in ((0, 0, (0, 0)), (0, 6, (1, 2)), (1, 2, (1, 0)), (1, 13, (2, 1))):
        for frame in range(2):
            cut = given[min(2 * time + frame, 2)][2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            assert np.array_equal(patches[time, row, :, frame], cut.transpose(2, 0, 1))


def test_two_equal_frames_are_the_picture():
    picture = noise(30, 50)
    video = prepare_video(decode_video([picture, picture], 1.0), RULE)
    assert np.array_equal(video.patches, prepare_image(decode_image(picture), RULE).patches)


def test_places_are_spaced_by_the_seconds_between_times():
    spaced = RULE.replace(tokens_per_second=2.0)
    assert prepare_video(decode_video(frames(4), 2.0), spaced).plan.interval == 2.0
    assert prepare_video(decode_video(frames(4), 1.6), spaced).plan.interval == pytest.approx(2.5)
    assert prepare_video(decode_video(frames(4), 1.6), RULE).plan.interval == 1.0


def test_another_rate_is_another_video():
    a, b = (decode_video(frames(2), fps) for fps in (1, 2))
    assert a.sha256 != b.sha256
    assert b.timing == (0.0, 0.5)


def test_frames_may_be_pictures_of_any_spelling_or_one_array():
    given = frames(2)
    made = decode_video([Image.fromarray(given[0]), given[1]], 1)
    assert np.array_equal(made.data, np.stack(given))
    assert decode_video(np.stack(given), 1).sha256 == made.sha256
    assert decode_video(made, None) is made


@pytest.mark.parametrize(("source", "fps", "code", "words"), [
    (7, 2, "media-unreadable", "list of frames"),
    (noise(4, 4), 2, "media-unreadable", "list of frames"),
    (frames(2), None, "media-unreadable", "rate"),
    (frames(2), 0, "media-unreadable", "rate"),
    ([], 2, "media-empty", "no frames"),
    ([noise(4, 4), noise(4, 5)], 2, "media-size", "5 x 4"),
    ([noise(4, 4), 7], 2, "media-unreadable", "int"),
])  # fmt: skip
def test_what_is_no_video_is_refused(source, fps, code, words):
    with pytest.raises(EyespotError, match=words) as caught:
        decode_video(source, fps, name="video 0")
    assert caught.value.code == code


def test_frames_and_pixels_are_limited():
    for limits in (LIMITS.replace(max_frames=2), LIMITS.replace(max_total_pixels=200)):
        with pytest.raises(EyespotError, match="at most 2|more than 200") as caught:
            decode_video(frames(3), 1, limits=limits)
        assert caught.value.code == "media-too-large"


def test_a_conversation_of_pictures_and_videos_keeps_their_order_and_places():
    video = {"type": "video", "video": frames(6), "fps": 2.0}
    picture = {"type": "image", "image": noise(8, 8, 9)}
    encoded = processor().encode(conversation("What", video, "is", picture, "it"), add_generation_prompt=True)
    assert [m.kind for m in encoded.media] == ["video", "image"]
    assert (encoded.input_ids == 2).sum() == 3 * 2 * 3
    assert (encoded.input_ids == 1).sum() == 2 * 2
    for medium, token in zip(encoded.media, (2, 1), strict=True):
        assert (encoded.input_ids[medium.slots] == token).all()
    batch = pack([encoded])
    start = int(encoded.media[0].slots[0])
    assert (batch.position_ids[0, start : start + 18] - start).tolist() == [0] * 6 + [2] * 6 + [4] * 6
    assert int(batch.position_ids[1, start + 18]) == start + 5
    assert batch.media["vision"].counts == (18, 4)


def test_the_same_words_with_another_kind_of_medium_are_not_mixed_up():
    both = processor()
    video = both.encode(conversation({"type": "video", "video": frames(2), "fps": 1}, "What"))
    picture = both.encode(conversation({"type": "image", "image": noise(8, 12)}, "What"))
    assert (video.input_ids == 2).sum() == (picture.input_ids == 1).sum() == 6


def test_a_model_that_takes_no_videos_says_so():
    message = conversation({"type": "video", "video": frames(2), "fps": 1}, "What")
    with pytest.raises(EyespotError, match="takes pictures, not video") as caught:
        processor(video=None).encode(message)
    assert caught.value.code == "not-supported"


def test_a_template_that_writes_no_videos_is_found_out():
    text = processor().contract.text
    blind = text.replace(template=TEMPLATE.replace("'<' + p.type + '>'", "'<image>'"))
    with pytest.raises(EyespotError, match="placeholders") as caught:
        processor(text=blind).encode(conversation({"type": "video", "video": frames(2), "fps": 1}, "What"))
    assert caught.value.code == "media-count"


def test_a_part_without_a_video_is_malformed():
    with pytest.raises(EyespotError, match="needs a video") as caught:
        conversation({"type": "video_url"})
    assert caught.value.code == "message-malformed"


# ------------------------------------------------------------------------------------------------------ films


def filmed(path, count=40, **options):
    pictures = [noise(24, 40, i) for i in range(count)]
    return pictures, film(path, pictures, codec="exact", **options)


def test_a_film_is_the_list_of_its_chosen_frames(tmp_path):
    pictures, path = filmed(tmp_path / "a.mkv")
    frames_rule = FrameRule(fps=2.0)
    made = decode_video(path, frames=frames_rule, rule=RULE)
    chosen = choose_frames(40, 10.0, frames_rule)
    listed = decode_video([pictures[i] for i in chosen], 2.0)
    assert (len(made.data), made.rate, made.size) == (8, 2.0, (40, 24))
    assert made.timing == pytest.approx(chosen / 10)
    a, b = (prepare_video(v, RULE, frames_rule) for v in (made, listed))
    assert np.array_equal(a.patches, b.patches)
    assert (a.transform, a.plan, a.input_size, a.original_size) == (b.transform, b.plan, b.input_size, b.original_size)


def test_frames_are_kept_in_the_models_size_only(tmp_path):
    _, path = filmed(tmp_path / "a.mkv")
    small = RULE.replace(max_pixels=200)
    made = decode_video(path, frames=FrameRule(), rule=small)
    assert made.data.shape[1] * made.data.shape[2] <= 200
    assert decode_video(path, frames=FrameRule()).data.shape == (8, 24, 40, 3)
    with pytest.raises(EyespotError, match="another model"):
        prepare_video(made, RULE.replace(max_pixels=120))


def test_the_area_of_all_frames_shrinks_each(tmp_path):
    pictures, path = filmed(tmp_path / "a.mkv")
    tight = FrameRule(fps=10.0, max_total_pixels=40 * 24 * 5)  # of twenty times
    for video in (decode_video(path, frames=tight, rule=RULE), decode_video(pictures, 10.0)):
        encoded = prepare_video(video, RULE, tight)
        assert encoded.grid_thw[0, 0] == 20
        assert encoded.input_size[0] * encoded.input_size[1] * 20 <= tight.max_total_pixels
    assert prepare_video(video, RULE).input_size == (40, 24)


@pytest.mark.parametrize("asked", [{}, {"fps": 5.0}, {"num_frames": 6}, {"max_frames": 4}])
def test_a_conversation_takes_a_film_and_what_is_asked_of_it(tmp_path, asked):
    _, path = filmed(tmp_path / "a.mkv")
    message = conversation({"type": "video", "video": str(path), **asked}, "What")
    encoded = processor(frames=FrameRule()).encode(message)
    count = {(): 8, ("fps",): 20, ("num_frames",): 6, ("max_frames",): 4}[tuple(asked)]
    assert encoded.media[0].grid_thw.tolist() == [[count // 2, 12, 20]]
    assert encoded.media[0].plan.interval == pytest.approx(2.0 * 2 / (count / 4.0))
    assert (encoded.input_ids == 2).sum() == count // 2 * 60


def test_without_a_rule_for_frames_a_film_is_not_guessed_at(tmp_path):
    _, path = filmed(tmp_path / "a.mkv", 4)
    with pytest.raises(EyespotError, match="which frames") as caught:
        processor().encode(conversation({"type": "video", "video": str(path)}, "What"))
    assert caught.value.code == "not-supported"


def test_films_of_data_rows_stay_below_their_root(tmp_path):
    _, path = filmed(tmp_path / "a.mkv", 4)
    message = conversation({"type": "video", "video": str(path)}, "What")
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(EyespotError, match="outside image_root"):
        processor(frames=FrameRule()).encode(message, root=inside)
    assert processor(frames=FrameRule()).encode(message, root=tmp_path).media


def test_frames_and_pixels_of_a_film_are_limited(tmp_path):
    _, path = filmed(tmp_path / "a.mkv")
    for limits in (LIMITS.replace(max_frames=4), LIMITS.replace(max_total_pixels=200)):
        with pytest.raises(EyespotError, match="at most 4|more than 200") as caught:
            decode_video(path, frames=FrameRule(), limits=limits)
        assert caught.value.code == "media-too-large"


def test_videos_given_beside_the_messages_fill_their_parts():
    parts = [{"type": "video", "fps": 2.0}, {"type": "image"}, {"type": "text", "text": "What"}]
    read = read_messages([{"role": "user", "content": parts}], ["a.png"], ["b.mp4"])
    assert [(p.kind, p.source, dict(p.options)) for p in read[0].media] == [
        ("video", "b.mp4", {"fps": 2.0}), ("image", "a.png", {}),
    ]  # fmt: skip
    assert [p.kind for p in read_messages("What", "a.png", "b.mp4")[0].media] == ["image", "video"]
    with pytest.raises(EyespotError, match="1 video parts without a video, 0 videos given"):
        read_messages([{"role": "user", "content": parts}], ["a.png"])
