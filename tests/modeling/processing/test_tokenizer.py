# SPDX-License-Identifier: Apache-2.0
"""The published tokenizer files on transformers 4.57, directly and through AutoTokenizer."""

import json

import pytest
from optimum.utils.save_utils import maybe_load_preprocessors
from transformers import AutoTokenizer, GemmaTokenizerFast
from transformers import logging as transformers_logging
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

from optimum_gemma4.modeling.processing import GemmaTokenizer, load_tokenizer, register
from tests.modeling.processing.toy_checkpoint import EXTRA_TOKENS, NAMED_TOKENS


@pytest.mark.parametrize("load", [load_tokenizer, AutoTokenizer.from_pretrained])
def test_published_files_load(load, toy_folder):
    tokenizer = load(toy_folder)
    assert type(tokenizer) is GemmaTokenizer
    for name, token in NAMED_TOKENS.items():
        assert getattr(tokenizer, name) == token
        assert getattr(tokenizer, f"{name}_id") == list(NAMED_TOKENS).index(name)
    assert tokenizer.additional_special_tokens == EXTRA_TOKENS
    assert set(tokenizer.all_special_tokens) == {*NAMED_TOKENS.values(), *EXTRA_TOKENS}
    assert tokenizer.padding_side == "left" and tokenizer.is_fast
    assert len(tokenizer) == tokenizer.backend_tokenizer.get_vocab_size()
    assert tokenizer.model_max_length > 10**20
    text = "Héllo <|image|>\n<|turn>user"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == "Héllo \nuser"


def test_no_warning_about_another_class(toy_folder, caplog):
    transformers_logging.enable_propagation()
    try:
        AutoTokenizer.from_pretrained(toy_folder)
    finally:
        transformers_logging.disable_propagation()
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def test_bos_follows_tokenizer_json(toy_folder, toy_folder_adding_bos):
    """transformers 4.57's own class would prepend one whatever the file says."""
    bos = 2
    assert bos not in AutoTokenizer.from_pretrained(toy_folder)("hi")["input_ids"]
    adding = AutoTokenizer.from_pretrained(toy_folder_adding_bos)
    assert adding("hi")["input_ids"].count(bos) == 1
    ids = adding.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=True)
    assert ids.count(bos) == 1 and ids[0] == bos


def test_saved_again_as_it_was_loaded(toy_folder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(toy_folder)
    files = tokenizer.save_pretrained(tmp_path)
    names = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert {file.name for file in tmp_path.iterdir()} == names == {file.rsplit("/", 1)[1] for file in files}
    loaded, saved = (json.loads((folder / "tokenizer_config.json").read_text()) for folder in (toy_folder, tmp_path))
    assert {key: saved[key] for key in loaded} == loaded
    assert set(saved) - set(loaded) == {"clean_up_tokenization_spaces"}
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert type(again) is GemmaTokenizer
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.special_tokens_map == tokenizer.special_tokens_map
    assert again.chat_template == tokenizer.chat_template


def test_dict_form_of_extra_tokens_loads_too(toy_folder):
    named = {key: token for key, token in NAMED_TOKENS.items() if key not in GemmaTokenizer.SPECIAL_TOKENS_ATTRIBUTES}
    tokenizer = load_tokenizer(toy_folder, extra_special_tokens=named, additional_special_tokens=EXTRA_TOKENS)
    assert tokenizer.image_token == "<|image|>" and tokenizer.additional_special_tokens == EXTRA_TOKENS


def test_other_gemma_tokenizers_stay_what_they_are(toy_folder, tmp_path):
    """The row in the table of names is in front of Gemma 1 to 3: their folders must load as without it."""
    config = json.loads((toy_folder / "tokenizer_config.json").read_text())
    del config["extra_special_tokens"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text((toy_folder / "tokenizer.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert type(tokenizer) is GemmaTokenizerFast
    assert tokenizer("hi")["input_ids"] == GemmaTokenizerFast.from_pretrained(tmp_path)("hi")["input_ids"]


def test_register_is_idempotent():
    register()
    before = list(TOKENIZER_MAPPING_NAMES.items())
    register()
    assert list(TOKENIZER_MAPPING_NAMES.items()) == before


def test_optimum_finds_the_preprocessors(toy_folder):
    """optimum's exporter loads all four Auto classes and swallows what fails."""
    names = [type(preprocessor).__name__ for preprocessor in maybe_load_preprocessors(toy_folder)]
    assert names == ["GemmaTokenizer", "Gemma4Processor", "Gemma4ImageProcessor"]


def test_missing_tokenizer_is_named(toy_folder, tmp_path):
    (tmp_path / "tokenizer_config.json").write_text((toy_folder / "tokenizer_config.json").read_text())
    for load in (load_tokenizer, AutoTokenizer.from_pretrained):
        with pytest.raises(ValueError, match=f"no tokenizer.json in {tmp_path}"):
            load(tmp_path)
