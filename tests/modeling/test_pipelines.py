# SPDX-License-Identifier: Apache-2.0
"""`optimum_gemma4.pipeline` for both tasks on one artifact: the calls that users of transformers' pipelines know."""

import io

import numpy as np
import pytest
from commands import PICTURE, QUESTION
from transformers import AutoProcessor

from optimum_gemma4 import NeuronModelForImageTextToText, pipeline
from optimum_gemma4.modeling.pipelines import Gemma4ImageTextToTextPipeline, Gemma4TextGenerationPipeline
from tools.tiny_pictures import draw


CAPITAL, PARIS = "What is the capital of France?", "The capital of France is Paris."
EACH = "What is in each picture?"
GREEDY = {"max_new_tokens": 24, "do_sample": False}
PROMPT = f"<bos><|turn>user\n<|image|>{QUESTION}<turn|>\n<|turn>model\n<|channel>thought\n<channel|>"


@pytest.fixture(scope="module")
def artifact(cli_export) -> str:
    return str(cli_export[1])


@pytest.fixture(scope="module")
def sees(artifact) -> Gemma4ImageTextToTextPipeline:
    return pipeline("image-text-to-text", model=artifact)


@pytest.fixture(scope="module")
def answers(sees, artifact):
    """The answers about pictures that the model gives without a pipeline, by seed."""
    processor = AutoProcessor.from_pretrained(artifact)

    def answer(*seeds: int) -> str:
        inputs = processor.apply_chat_template(
            _ask(*(draw(seed)[0] for seed in seeds), question=QUESTION if len(seeds) == 1 else EACH),
            add_generation_prompt=True, tokenize=True, return_tensors="pt", return_dict=True,
        )  # fmt: skip
        tokens = sees.model.generate(**inputs, **GREEDY)
        return processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    return answer


def _ask(*images, question: str = QUESTION) -> list[dict]:
    parts = [{"type": "image", "image": image} for image in images]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]


def _png(image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _said(results: list) -> list[str]:
    return [result["generated_text"][-1]["content"] for (result,) in results]


def test_a_picture_is_described(sees):
    image, description = draw(PICTURE)
    (result,) = sees(_ask(image), **GREEDY)
    assert result["generated_text"][-1] == {"role": "assistant", "content": description}
    assert result["input_text"] == _ask(image)


@pytest.mark.parametrize("kind", ["array", "bytes", "path", "as an argument", "OpenAI's form"])
def test_a_picture_may_be_anything_that_the_processor_takes(sees, answers, tmp_path, kind):
    image = draw(PICTURE)[0]
    (tmp_path / "picture.png").write_bytes(_png(image))
    messages, images = {
        "array": (_ask(np.asarray(image)), None),
        "bytes": (_ask(_png(image)), None),
        "path": (_ask(str(tmp_path / "picture.png")), None),
        "as an argument": ([{"role": "user", "content": [{"type": "image"}, *_ask()[0]["content"]]}], [image]),
        "OpenAI's form": (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": str(tmp_path / "picture.png")}},
                        *_ask()[0]["content"],
                    ],
                }
            ],
            None,
        ),
    }[kind]
    (result,) = sees(text=messages, images=images, return_full_text=False, **GREEDY)
    assert result["generated_text"] == answers(PICTURE)


def test_a_batch_mixes_two_pictures_one_and_none_and_drops_nothing(sees, answers):
    """Five conversations, two at a time, in any order: the second picture of one is not taken for another's first."""
    first, second, third = (draw(seed)[0] for seed in (PICTURE, PICTURE + 1, PICTURE + 2))
    pair, alone = answers(PICTURE + 1, PICTURE + 2), answers(PICTURE + 2)
    assert len({pair, alone, answers(PICTURE)}) == 3
    two = _ask(second, third, question=EACH)
    results = sees([two, _ask(first), _ask(question=CAPITAL), two, _ask(third)], **GREEDY)
    assert _said(results) == [pair, answers(PICTURE), PARIS, pair, alone]


def test_the_frames_of_a_video(sees, artifact):
    frames = [draw(seed)[0].resize((320, 240)) for seed in (PICTURE, PICTURE + 1)]
    messages = [{"role": "user", "content": [{"type": "video", "video": frames}, {"type": "text", "text": QUESTION}]}]
    inputs = AutoProcessor.from_pretrained(artifact).apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_tensors="pt", return_dict=True
    )
    assert inputs["num_frames_per_video"].tolist() == [2]
    tokens = sees.model.generate(**inputs, **GREEDY)
    (result,) = sees(messages, return_tensors=True, **GREEDY)
    assert result["generated_token_ids"].tolist() == tokens[0].tolist()


def test_a_batch_runs_together(sees, monkeypatch):
    sizes = []
    generate = sees.model.generate

    def counted(input_ids, **kwargs):
        sizes.append(len(input_ids))
        return generate(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(sees.model, "generate", counted)
    chats = [_ask(question=CAPITAL)] * 3
    assert _said(sees(chats, **GREEDY)) == [PARIS] * 3
    assert _said(list(sees((chat for chat in chats), batch_size=1, **GREEDY))) == [PARIS] * 3
    assert sizes == [2, 1, 1, 1, 1]


def test_raw_prompts_with_placeholders(sees, answers):
    images = [draw(seed)[0] for seed in (PICTURE, PICTURE + 1)]
    wanted = [answers(PICTURE), answers(PICTURE + 1)]
    (one,) = sees(images=images[0], text=PROMPT, return_full_text=False, **GREEDY)
    several = sees(images=images, text=[PROMPT, PROMPT], return_full_text=False, **GREEDY)
    assert one["generated_text"] == wanted[0]
    assert [result["generated_text"] for result in several] == wanted


def test_an_assistants_turn_is_continued(sees):
    messages = [
        *_ask(question=CAPITAL),
        {"role": "assistant", "content": [{"type": "text", "text": "The capital of"}]},
    ]
    (result,) = sees(messages, **GREEDY)
    assert result["generated_text"][-1]["content"][-1]["text"].startswith(PARIS)


def test_options_reach_generate_and_the_processor(sees):
    """transformers' pipeline drops all of them for chats without a word, `do_sample` included."""
    image = draw(PICTURE)[0]
    options = sees._sanitize_parameters(do_sample=False, max_new_tokens=3, max_soft_tokens=140, enable_thinking=True)
    assert options[:2] == (
        {"max_soft_tokens": 140, "enable_thinking": True},
        {"generate_kwargs": {"do_sample": False, "max_new_tokens": 3}},
    )
    assert sees.preprocess(_ask(image), max_soft_tokens=140)["pixel_values"].shape[1] == 9 * 140
    thinking = sees.preprocess(_ask(image), enable_thinking=True)
    assert thinking["input_ids"].shape != sees.preprocess(_ask(image))["input_ids"].shape
    with pytest.raises(ValueError, match="temprature: no option of this pipeline"):
        sees(_ask(image), temprature=1.0)


@pytest.mark.parametrize(
    ("images", "text", "message"),
    [
        (1, f"<bos>{QUESTION}", r"Prompt 0 has 0 <\|image\|> placeholders, but 1 images were given"),
        (1, f"<bos><|image|><|image|>{QUESTION}", r"Prompt 0 has 2 <\|image\|> placeholders, but 1 images"),
        (3, [f"<bos><|image|>{QUESTION}"] * 2, r"have \[1, 1\] <\|image\|> placeholders, but 3 images were given"),
    ],
)
def test_placeholders_and_images_must_match(sees, images, text, message):
    with pytest.raises(ValueError, match=message):
        sees(images=[draw(PICTURE)[0]] * images, text=text, **GREEDY)


def test_text_generation_on_the_same_artifact(artifact):
    writes = pipeline("text-generation", model=artifact)
    assert type(writes) is Gemma4TextGenerationPipeline and writes._batch_size == 2
    chats = [[{"role": "user", "content": CAPITAL}]] * 2
    assert _said(writes(chats, **GREEDY)) == [PARIS] * 2


def test_a_loaded_model_needs_its_processor(sees, artifact):
    with pytest.raises(ValueError, match="processor is missing"):
        pipeline("image-text-to-text", model=sees.model)
    by_path = pipeline(model=sees.model, processor=artifact, do_sample=False)
    assert type(by_path) is Gemma4ImageTextToTextPipeline and by_path.generation_config.do_sample is False


def test_what_was_not_exported_is_refused(artifact, tiny_checkpoint):
    with pytest.raises(
        ValueError, match="task is 'fill-mask': .* exported for text-generation and image-text-to-text"
    ):
        pipeline("fill-mask", model=artifact)
    with pytest.raises(ValueError, match="is not an exported model, or .*optimum-cli export neuron makes one"):
        pipeline("text-generation", model=str(tiny_checkpoint))
    with pytest.raises(ValueError, match="model is missing"):
        pipeline("text-generation")


def test_the_model_has_the_public_class(sees):
    assert isinstance(sees.model, NeuronModelForImageTextToText)
