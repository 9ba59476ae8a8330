# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of the tiny Gemma 4 and its side files, laid out as in the Hub repo of the 31B.

A byte-fallback BPE with the pipeline of the published `tokenizer.json` (spaces become "▁", no post-processor, so no
implied <bos>). Special tokens below 107 have the published ids; the image ids are moved to the end of the small
vocabulary. `tokenizer_config.json` has the list-valued `extra_special_tokens`.
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers


VOCAB_SIZE = 1024
NAMED = {
    "pad_token": ("<pad>", 0),
    "eos_token": ("<eos>", 1),
    "bos_token": ("<bos>", 2),
    "unk_token": ("<unk>", 3),
    "mask_token": ("<mask>", 4),
    "std_token": ("<|tool>", 46),
    "etd_token": ("<tool|>", 47),
    "stc_token": ("<|tool_call>", 48),
    "etc_token": ("<tool_call|>", 49),
    "str_token": ("<|tool_response>", 50),
    "etr_token": ("<tool_response|>", 51),
    "escape_token": ('<|"|>', 52),
    "think_token": ("<|think|>", 98),
    "soc_token": ("<|channel>", 100),
    "eoc_token": ("<channel|>", 101),
    "sot_token": ("<|turn>", 105),
    "eot_token": ("<turn|>", 106),
    "boi_token": ("<|image>", 1018),
    "boa_token": ("<|audio>", 1019),
    "image_token": ("<|image|>", 1020),
    "audio_token": ("<|audio|>", 1021),
    "eoi_token": ("<image|>", 1022),
    "eoa_token": ("<audio|>", 1023),
}
VIDEO = ("<|video|>", 1017)
FIRST_TEXT_ID = 107

CHAT_TEMPLATE = """\
{%- macro parts(content) -%}
    {%- if content is string -%}
        {{- content | trim -}}
    {%- elif content is not none -%}
        {%- for part in content -%}
            {%- if part.type == 'text' -%}
                {{- part.text | trim -}}
            {%- elif part.type in ('image', 'audio', 'video') -%}
                {{- '<|' ~ part.type ~ '|>' -}}
            {%- else -%}
                {{- raise_exception('unknown content type ' ~ part.type) -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- macro without_thoughts(text) -%}
    {%- set kept = namespace(text='') -%}
    {%- for piece in text.split('<channel|>') -%}
        {%- set kept.text = kept.text ~ piece.split('<|channel>')[0] -%}
    {%- endfor -%}
    {{- kept.text | trim -}}
{%- endmacro -%}
{%- set thinking = enable_thinking | default(false) -%}
{%- set has_system = messages and messages[0].role in ('system', 'developer') -%}
{{- bos_token -}}
{%- if thinking or has_system -%}
    {{- '<|turn>system\\n' -}}
    {%- if thinking -%}
        {{- '<|think|>\\n' -}}
    {%- endif -%}
    {%- if has_system -%}
        {{- parts(messages[0].content) -}}
    {%- endif -%}
    {{- '<turn|>\\n' -}}
{%- endif -%}
{%- for message in (messages[1:] if has_system else messages) -%}
    {%- if message.role == 'assistant' -%}
        {{- '<|turn>model\\n' ~ without_thoughts(parts(message.content)) ~ '<turn|>\\n' -}}
    {%- else -%}
        {{- '<|turn>' ~ message.role ~ '\\n' ~ parts(message.content) ~ '<turn|>\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|turn>model\\n' -}}
    {%- if not thinking -%}
        {{- '<|channel>thought\\n<channel|>' -}}
    {%- endif -%}
{%- endif -%}
"""


def _merges(corpus: list[str], size: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Learn characters and merges inside words, so that no token spans two words or two digits."""
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[0-9\n]"), "isolated"),
            pre_tokenizers.Split(Regex(r"▁?[A-Za-z]+|▁"), "isolated"),
        ]
    )
    learner.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=size, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    words = sorted(learned["vocab"], key=learned["vocab"].get)
    return words, [tuple(pair) for pair in learned["merges"]]


def train_tokenizer(corpus: list[str]) -> Tokenizer:
    """Train the BPE on `corpus` and put it in Gemma's pipeline; the vocabulary has exactly VOCAB_SIZE ids."""
    special = {i: text for text, i in [*NAMED.values(), VIDEO]}
    last_text_id = min(i for i in special if i > FIRST_TEXT_ID)
    vocab = {special.get(i, f"<unused{i}>"): i for i in range(FIRST_TEXT_ID)}
    letters, merges = _merges(corpus, last_text_id - FIRST_TEXT_ID - 256)
    for text in [f"<0x{byte:02X}>" for byte in range(256)] + letters:
        vocab[text] = len(vocab)
    for i in range(len(vocab), VOCAB_SIZE):
        vocab[special.get(i, f"<unused{i}>")] = i
    tokenizer = Tokenizer(models.BPE(vocab, merges, fuse_unk=True, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(special[i], special=True, normalized=False) for i in sorted(special)])
    wrong = {text: tokenizer.token_to_id(text) for i, text in special.items() if tokenizer.token_to_id(text) != i}
    if wrong or tokenizer.get_vocab_size() != VOCAB_SIZE:
        raise ValueError(f"the vocabulary has {tokenizer.get_vocab_size()} ids, misplaced special tokens: {wrong}")
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {name: text for name, (text, _) in NAMED.items()} | {
        "backend": "tokenizers",
        "extra_special_tokens": [VIDEO[0]],
        "model_max_length": 1000000000000000019884624838656,
        "padding_side": "left",
        "processor_class": "Gemma4Processor",
        "tokenizer_class": "GemmaTokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
