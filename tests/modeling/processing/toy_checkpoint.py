# SPDX-License-Identifier: Apache-2.0
"""A folder with the published file structure of a Gemma 4 checkpoint and a tokenizer of some 400 ids, no weights.

Used by the tests and by `tools/make_processing_reference.py`, so that both transformers versions read the same files.
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors


NAMED_TOKENS = {
    "pad_token": "<pad>",
    "eos_token": "<eos>",
    "bos_token": "<bos>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
    "sot_token": "<|turn>",
    "eot_token": "<turn|>",
    "think_token": "<|think|>",
    "boi_token": "<|image>",
    "image_token": "<|image|>",
    "eoi_token": "<image|>",
    "boa_token": "<|audio>",
    "audio_token": "<|audio|>",
    "eoa_token": "<audio|>",
}
EXTRA_TOKENS = ["<|video|>"]
CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
    {{- '<|turn>' ~ message.role ~ '\\n' -}}
    {%- if message.content is string -%}
        {{- message.content -}}
    {%- else -%}
        {%- for part in message.content -%}
            {{- part.text if part.type == 'text' else '<|' ~ part.type ~ '|>' -}}
        {%- endfor -%}
    {%- endif -%}
    {{- '<turn|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|turn>model\\n' ~ ('' if enable_thinking | default(false) else 'no thoughts\\n') -}}
{%- endif -%}
"""
IMAGE_PROCESSOR = {
    "do_convert_rgb": True,
    "do_normalize": False,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.0, 0.0, 0.0],
    "image_processor_type": "Gemma4ImageProcessor",
    "image_seq_length": 280,
    "image_std": [1.0, 1.0, 1.0],
    "max_soft_tokens": 280,
    "patch_size": 16,
    "pooling_kernel_size": 3,
    "resample": 3,
    "rescale_factor": 1 / 255,
}
VIDEO_PROCESSOR = IMAGE_PROCESSOR | {
    "do_normalize": True,
    "do_sample_frames": True,
    "max_soft_tokens": 70,
    "num_frames": 32,
    "return_metadata": False,
    "video_processor_type": "Gemma4VideoProcessor",
}
PROCESSOR = {
    "audio_ms_per_token": 40,
    "audio_seq_length": 750,
    "feature_extractor": {"feature_extractor_type": "Gemma4AudioFeatureExtractor", "sampling_rate": 16000},
    "image_processor": IMAGE_PROCESSOR,
    "image_seq_length": 280,
    "processor_class": "Gemma4Processor",
    "video_processor": VIDEO_PROCESSOR,
}


def toy_tokenizer(adds_bos: bool = False) -> Tokenizer:
    """Byte-fallback BPE without merges in Gemma's pipeline; with `adds_bos` the post-processor prepends <bos>."""
    special = [*NAMED_TOKENS.values(), *EXTRA_TOKENS]
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)] + ["▁", "\n"]
    pieces = special + [f"<0x{byte:02X}>" for byte in range(256)] + letters
    model = models.BPE({piece: i for i, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
        )
    return tokenizer


def write_toy_checkpoint(folder: Path, adds_bos: bool = False) -> Path:
    """Writes the files and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    toy_tokenizer(adds_bos).save(str(folder / "tokenizer.json"))
    tokenizer_config = NAMED_TOKENS | {
        "backend": "tokenizers",
        "extra_special_tokens": EXTRA_TOKENS,
        "model_max_length": 1000000000000000019884624838656,
        "padding_side": "left",
        "processor_class": "Gemma4Processor",
        "tokenizer_class": "GemmaTokenizer",
    }
    config = {"architectures": ["Gemma4ForConditionalGeneration"], "model_type": "gemma4"}
    for name, content in (
        ("tokenizer_config.json", tokenizer_config),
        ("processor_config.json", PROCESSOR),
        ("config.json", config),
    ):
        (folder / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    return folder
