# SPDX-License-Identifier: Apache-2.0
"""Gemma4Processor: expansion equal to transformers 5.23, matching of images and prompts, chat, files."""

import io
import json

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoProcessor, PreTrainedTokenizerFast

from optimum_gemma4.modeling.processing import Gemma4ImageProcessor, Gemma4Processor, soft_token_counts
from tests.modeling.processing.toy_checkpoint import CHAT_TEMPLATE, PROCESSOR
from tests.modeling.processing.toy_images import PROMPTS, drawn_image


IMAGE = drawn_image(1, 40, 90)


@pytest.mark.parametrize("index", range(len(PROMPTS)))
def test_prompts_equal_the_reference(index, processor, golden):
    text, sizes = PROMPTS[index]
    images = [[drawn_image(height, height, width) for height, width in sizes_of_prompt] for sizes_of_prompt in sizes]
    outputs = processor(text=text, images=images if any(images) else None, max_soft_tokens=70)
    for name, rows in golden["prompts"]["prompts"][index].items():
        assert outputs[name] == rows, name


def test_soft_tokens_of_each_image_stand_in_its_own_place(processor):
    sizes = [(48, 480), (300, 300), (400, 50)]
    images = [drawn_image(index, *size) for index, size in enumerate(sizes)]
    outputs = processor(
        text=["a <|image|> b <|image|>", "c <|image|>"], images=[images[:2], images[2:]], return_tensors="pt"
    )
    counts = soft_token_counts(outputs["image_position_ids"])
    assert len(set(counts)) == 3
    runs = []
    for ids in outputs["input_ids"].tolist():
        text = processor.tokenizer.decode(ids)
        runs += [part.count("<|image|>") for part in text.split("<|image>")[1:]]
    assert runs == counts
    assert (outputs["mm_token_type_ids"] == 1).sum() == sum(counts)
    assert torch.equal(outputs["mm_token_type_ids"] == 1, outputs["input_ids"] == processor.image_token_id)
    assert outputs["attention_mask"][1, 0] == 0 and outputs["attention_mask"][:, -1].all()  # left padding


def test_flat_list_is_dealt_out_in_order(processor):
    images = [drawn_image(index, 30 + 9 * index, 80) for index in range(3)]
    text = ["<|image|>", "none", "<|image|> and <|image|>"]
    flat = processor(text=text, images=images, max_soft_tokens=70)
    nested = processor(text=text, images=[images[:1], [], images[1:]], max_soft_tokens=70)
    assert flat["input_ids"] == nested["input_ids"]
    assert np.array_equal(flat["pixel_values"], nested["pixel_values"])


@pytest.mark.parametrize(
    ("text", "images", "message"),
    [
        (["<|image|>", "<|image|>"], [[IMAGE, IMAGE], []], "Prompt 0 has 1 .* but 2 images"),
        (["<|image|><|image|>", "x"], [[IMAGE, IMAGE], [IMAGE]], "Prompt 1 has 0 .* but 1 images"),
        ("<|image|> <|image|>", [IMAGE], "Prompt 0 has 2 .* but 1 images"),
        ("<|image|>", [IMAGE] * 3, "Prompt 0 has 1 .* but 3 images"),
        ("no placeholder", IMAGE, "Prompt 0 has 0 .* but 1 images"),
        ("<|image|>", None, "Prompt 0 has 1 .* but 0 images"),
        (["<|image|>", "<|image|>"], [IMAGE], r"\[1, 1\] .* but 1 images"),
        (["<|image|>", "<|image|>"], [[IMAGE]], "2 prompts and 1 lists"),
        ("<|image|>", [IMAGE, [IMAGE]], "mixes images and lists"),
        ("<|video|>", None, "1 .* placeholders, but 0 videos"),
        (None, None, "Neither text nor images"),
        ([["a", "b"]], None, "string or a list of strings"),
    ],
)
def test_mismatches_are_errors_with_both_counts(processor, text, images, message):
    """Features are never dropped, repeated or cut in silence (PEERS.md D8)."""
    with pytest.raises(ValueError, match=message):
        processor(text=text, images=images)


def test_truncated_soft_tokens_are_an_error(processor):
    with pytest.raises(ValueError, match="Mismatch in `image` token count"):
        processor(text="<|image|>", images=IMAGE, truncation=True, max_length=20)


def test_images_alone_make_a_prompt(processor):
    outputs = processor(images=[[IMAGE], [IMAGE, IMAGE]], max_soft_tokens=70)
    counts = [row.count(processor.image_token_id) for row in outputs["input_ids"]]
    assert counts[1] == 2 * counts[0] > 0


def test_d13_black_image_gets_its_soft_tokens(processor):
    """PEERS.md D13: an all-black image is expanded, typed and passed on like any other."""
    outputs = processor(text="<|image|>", images=np.zeros((48, 48, 3), np.uint8), max_soft_tokens=70)
    assert outputs["input_ids"][0].count(processor.image_token_id) == 64
    assert outputs["pixel_values"].shape == (1, 630, 768) and not outputs["pixel_values"].any()


def test_no_double_bos(toy_folder_adding_bos):
    processor = AutoProcessor.from_pretrained(toy_folder_adding_bos)
    bos = processor.tokenizer.bos_token_id
    assert processor(text=["<bos>one", "<bos>three"])["input_ids"][1].count(bos) == 1
    assert processor(text="one")["input_ids"][0].count(bos) == 1
    assert processor(text="<bos>one", add_special_tokens=True)["input_ids"][0].count(bos) == 2
    chat = [{"role": "user", "content": "hi"}]
    assert processor.apply_chat_template(chat, tokenize=True)[0].count(bos) == 1


def test_audio_is_refused(processor):
    with pytest.raises(ValueError, match="Audio"):
        processor(text="x", audio=np.zeros(100))


def png(image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_chat_template_with_every_kind_of_image(processor, tmp_path):
    file = tmp_path / "picture.png"
    file.write_bytes(png(IMAGE))
    parts = [
        {"type": "image", "image": IMAGE},
        {"type": "image", "path": str(file)},
        {"type": "image", "image": file},
        {"type": "image", "image": np.array(IMAGE)},
        {"type": "image", "image": png(IMAGE)},
    ]
    chat = [
        {"role": "system", "content": "Look."},
        {"role": "user", "content": [*parts[:2], {"type": "text", "text": "Same?"}, *parts[2:]]},
        {"role": "assistant", "content": "Yes."},
    ]
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "max_soft_tokens": 70}
    outputs = processor.apply_chat_template(chat, add_generation_prompt=True, **options)
    pixels = outputs["pixel_values"]
    assert pixels.shape == (5, 630, 768) and all(torch.equal(pixels[0], other) for other in pixels[1:])
    text = processor.decode(outputs["input_ids"][0])
    assert text.startswith("<bos><|turn>system\nLook.<turn|>\n<|turn>user\n<|image><|image|>")
    assert text.endswith("<image|><turn|>\n<|turn>assistant\nYes.<turn|>\n<|turn>model\nno thoughts\n")
    assert text.index("Same?") > 0


def test_chat_template_variables_reach_the_template_only(processor):
    chat = [{"role": "user", "content": "hi"}]
    prompt = processor.apply_chat_template(chat, add_generation_prompt=True, enable_thinking=True)
    assert prompt.endswith("<|turn>model\n")
    ids = processor.apply_chat_template(chat, tokenize=True, add_generation_prompt=True, enable_thinking=True)
    assert processor.decode(ids[0]) == prompt


def test_batched_chats_keep_their_own_images(processor):
    chats = [
        [{"role": "user", "content": [{"type": "image", "image": IMAGE}, {"type": "text", "text": "one"}]}],
        [{"role": "user", "content": "none"}],
    ]
    outputs = processor.apply_chat_template(chats, tokenize=True, return_dict=True, max_soft_tokens=70)
    assert [row.count(processor.image_token_id) > 0 for row in outputs["input_ids"]] == [True, False]
    assert outputs["pixel_values"].shape[0] == 1


def test_chat_image_without_source_is_an_error(processor):
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}]
    with pytest.raises(ValueError, match="Prompt 0 has 1 .* but 0 images"):
        processor.apply_chat_template(chat, tokenize=True)


@pytest.mark.parametrize("nest", [lambda url: {"url": url}, lambda url: url])
def test_images_as_openai_writes_them_are_images(processor, tmp_path, nest):
    """Gemma 4's template skips parts of other types: these would be dropped without a word."""
    file = tmp_path / "picture.png"
    file.write_bytes(png(IMAGE))
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "max_soft_tokens": 70}
    image, image_url = (
        processor.apply_chat_template([{"role": "user", "content": [part, {"type": "text", "text": "a"}]}], **options)
        for part in ({"type": "image", "image": IMAGE}, {"type": "image_url", "image_url": nest(str(file))})
    )
    assert torch.equal(image["input_ids"], image_url["input_ids"]) and (image["mm_token_type_ids"] == 1).any()
    assert torch.equal(image["pixel_values"], image_url["pixel_values"])


def test_templates_see_messages_as_in_transformers_5(processor):
    template = (
        "{% for message in messages %}{{ message['name'] | default('?') }} {{ message['reasoning_content'] }}/"
        "{{ message['thinking'] }} {{ 'content' in message }};{% endfor %}"
    )
    chat = [
        {"role": "tool", "name": None, "content": None, "thinking": "a"},
        {"role": "assistant", "name": "n", "content": "x", "reasoning": "b"},
    ]
    given = json.dumps(chat)
    assert processor.apply_chat_template(chat, chat_template=template) == "? a/a False;n b/b True;"
    assert processor.apply_chat_template([chat, chat[:1]], chat_template=template)[1] == "? a/a False;"
    assert json.dumps(chat) == given


def test_options_of_the_call_may_come_as_one_dict(processor):
    chat = [{"role": "user", "content": [{"type": "image", "image": IMAGE}]}]
    options = {"return_tensors": "pt", "max_soft_tokens": 70}
    outputs = processor.apply_chat_template(chat, tokenize=True, return_dict=True, processor_kwargs=options)
    assert outputs["pixel_values"].shape == (1, 630, 768)


def test_what_a_chat_cannot_have_is_refused(processor):
    audio = [{"role": "user", "content": [{"type": "audio", "audio": "speech.wav"}]}]
    with pytest.raises(ValueError, match="has audio"):
        processor.apply_chat_template(audio, tokenize=True)
    with pytest.raises(ValueError, match="sanitize_control_tokens"):
        processor.apply_chat_template([{"role": "user", "content": "hi"}], sanitize_control_tokens=True)


def test_bad_conversations_are_errors(processor):
    with pytest.raises(ValueError, match="message is a str"):
        processor.apply_chat_template(["hello"], chat_template="x", tokenize=True)


def test_files_are_those_of_the_hub(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"chat_template.jinja", "processor_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert json.loads((tmp_path / "processor_config.json").read_text()) == PROCESSOR
    assert (tmp_path / "chat_template.jinja").read_text() == CHAT_TEMPLATE
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is Gemma4Processor and type(loaded.image_processor) is Gemma4ImageProcessor
    assert loaded.to_dict() == processor.to_dict() and loaded.chat_template == processor.chat_template
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is Gemma4ImageProcessor
    outputs = [each(text="<|image|>", images=IMAGE) for each in (processor, loaded)]
    assert outputs[0]["input_ids"] == outputs[1]["input_ids"]


def test_tokenizer_without_image_tokens_is_refused(processor):
    plain = PreTrainedTokenizerFast(tokenizer_object=processor.tokenizer.backend_tokenizer)
    with pytest.raises(ValueError, match="image_token, boi_token, eoi_token"):
        Gemma4Processor(Gemma4ImageProcessor(), plain)


def test_model_input_names(processor):
    outputs = processor(text="<|image|>", images=IMAGE)
    assert set(outputs) == set(processor.model_input_names)
