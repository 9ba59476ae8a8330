# SPDX-License-Identifier: Apache-2.0
"""Videos given as frames: 70 soft tokens a frame, one timed group per frame, nothing dropped."""

import numpy as np
import pytest

from optimum_gemma4.modeling.processing.video import frame_times, list_videos
from tests.modeling.processing.toy_images import drawn_image


FRAMES = [drawn_image(index, 40, 70) for index in range(3)]


def test_group_of_a_video_equals_the_reference(golden):
    times = frame_times({"fps": 2.0, "frames_indices": [0, 61, 122, 7450]}, 4, "video 0")
    text = " ".join(f"{time} <|image>{'<|video|>' * 3}<image|>" for time in times)
    assert text == golden["prompts"]["video"]


def test_frames_become_timed_groups(processor):
    metadata = [{"fps": 2.0, "frames_indices": [0, 120, 241]}]
    outputs = processor(text="see <|video|>!", videos=FRAMES, videos_kwargs={"video_metadata": metadata})
    assert outputs["pixel_values_videos"].shape == (3, 630, 768)
    assert outputs["num_frames_per_video"] == [3]
    count = int((outputs["video_position_ids"][0, :, 0] >= 0).sum()) // 9
    group = f"<|image>{'<|video|>' * count}<image|>"
    assert processor.decode(outputs["input_ids"][0]) == f"see 00:00 {group} 01:00 {group} 02:00 {group}!"
    assert outputs["mm_token_type_ids"][0].count(2) == 3 * count and 1 not in outputs["mm_token_type_ids"][0]


def test_frames_are_the_images_of_the_same_processor(processor):
    video = processor(text="<|video|>", videos=FRAMES)
    images = processor.image_processor(FRAMES, max_soft_tokens=70)
    assert np.array_equal(video["pixel_values_videos"], images["pixel_values"])
    assert np.array_equal(video["video_position_ids"], images["image_position_ids"])


def test_images_and_videos_in_one_prompt(processor):
    outputs = processor(text="<|video|> <|image|> <|video|>", images=FRAMES[0], videos=[FRAMES, FRAMES[:1]])
    assert outputs["num_frames_per_video"] == [3, 1]
    types = [kind for kind in outputs["mm_token_type_ids"][0] if kind]
    first_image, last_image = types.index(1), len(types) - 1 - types[::-1].index(1)
    assert set(types[:first_image]) == {2} == set(types[last_image + 1 :])


def test_video_in_a_chat(processor):
    chat = [{"role": "user", "content": [{"type": "video", "video": FRAMES}, {"type": "text", "text": "what?"}]}]
    outputs = processor.apply_chat_template(chat, tokenize=True, return_dict=True)
    assert outputs["num_frames_per_video"] == [3]


def test_chats_with_a_video_and_without_one_make_a_batch(processor):
    chats = [
        [{"role": "user", "content": [{"type": "video", "video": FRAMES}]}],
        [{"role": "user", "content": "no video"}],
    ]
    outputs = processor.apply_chat_template(chats, tokenize=True, return_dict=True)
    assert outputs["num_frames_per_video"] == [3]
    assert [2 in types for types in outputs["mm_token_type_ids"]] == [True, False]


@pytest.mark.parametrize("options", [{"max_soft_tokens": 140}, {"videos_kwargs": {"max_soft_tokens": 140}}])
def test_a_budget_that_is_given_is_that_of_frames_too(processor, options):
    """As in transformers: a budget given flat is for images and frames alike."""
    outputs = processor(text="<|image|> <|video|>", images=FRAMES[0], videos=FRAMES, **options)
    assert outputs["pixel_values_videos"].shape == (3, 1260, 768)
    assert outputs["pixel_values"].shape == (1, 1260 if "max_soft_tokens" in options else 2520, 768)


def test_shapes_of_videos():
    array = np.zeros((2, 8, 9, 3), np.uint8)
    assert [len(video) for video in list_videos(array)] == [2]
    assert [len(video) for video in list_videos([array, FRAMES])] == [2, 3]
    assert [len(video) for video in list_videos([[array], [FRAMES, array]])] == [2, 3, 2]
    assert [len(video) for video in list_videos(FRAMES)] == [3]


def test_unknown_rate_counts_as_24_frames_a_second():
    assert frame_times(None, 50, "video 0")[::24] == ["00:00", "00:01", "00:02"]


@pytest.mark.parametrize(
    ("videos", "metadata", "message"),
    [
        ("film.mp4", None, "given as str"),
        ([[]], None, "0 frames"),
        (FRAMES, [{"fps": 1, "frames_indices": [0]}], "video 0 has 3 frames, but .* 1"),
        (FRAMES, [{"fps": 1}, {"fps": 2}], "1 videos and 2"),
        ([FRAMES, FRAMES], None, "1 .* placeholders, but 2 videos"),
    ],
)
def test_wrong_videos_are_errors(processor, videos, metadata, message):
    with pytest.raises(ValueError, match=message):
        processor(text="<|video|>", videos=videos, videos_kwargs={"video_metadata": metadata})
