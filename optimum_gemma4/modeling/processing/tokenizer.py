# SPDX-License-Identifier: Apache-2.0
"""The Gemma 4 tokenizer on transformers 4.57, from the files as they are published.

Those files were written by transformers 5: `extra_special_tokens` is a list and each named token (`image_token`,
`boi_token`, ...) is a flat key, where 4.57 wants one dict; and its `GemmaTokenizerFast` prepends a `<bos>` of its own.
Ours takes the published form, follows tokenizer.json (as transformers 5.23 `GemmaTokenizer` does) and saves the same
form again, so that a folder stays readable by both.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from transformers import GemmaTokenizerFast, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.tokenization_utils_base import AddedToken


# Written by transformers 4.57 only, as is special_tokens_map.json; transformers 5 reads them from tokenizer.json.
_REDUNDANT_KEYS = ("added_tokens_decoder", "additional_special_tokens")


class GemmaTokenizer(PreTrainedTokenizerFast):
    """Fast tokenizer of Gemma 4 with its named multimodal tokens.

    It bears the name that the published files and transformers 5 use for it; with another one transformers would warn
    at every load, and save files that transformers 5 does not know.
    Every keyword `<name>_token` beyond the usual ones becomes a named special token, so that `tokenizer.image_token`
    and `tokenizer.image_token_id` exist.

    Args:
        *args: as for `PreTrainedTokenizerFast`.
        extra_special_tokens: the published list of unnamed special tokens, or a dict of named ones.
        **kwargs: as for `PreTrainedTokenizerFast`, and the named tokens.

    """

    padding_side = "left"
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(
        self,
        *args: Any,
        extra_special_tokens: list[str] | dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        named = dict(extra_special_tokens) if isinstance(extra_special_tokens, dict) else {}
        unnamed = [] if isinstance(extra_special_tokens, dict) else list(extra_special_tokens or ())
        named |= dict(kwargs.pop("model_specific_special_tokens", None) or {})
        named |= {
            key: kwargs.pop(key)
            for key in list(kwargs)
            if key.endswith("_token")
            and key not in self.SPECIAL_TOKENS_ATTRIBUTES
            and isinstance(kwargs[key], (str, AddedToken))
        }
        unnamed += [token for token in kwargs.pop("additional_special_tokens", None) or () if token not in unnamed]
        super().__init__(*args, extra_special_tokens=named, additional_special_tokens=unnamed, **kwargs)

    @classmethod
    def _from_pretrained(
        cls,
        resolved_vocab_files: dict[str, str | None],
        pretrained_model_name_or_path: str | os.PathLike,
        *args: Any,
        **kwargs: Any,
    ) -> GemmaTokenizer:
        # Before transformers' own: where protobuf is not installed, that turns any error into one about protobuf.
        if resolved_vocab_files.get("tokenizer_file") is None:
            raise ValueError(
                f"There is no tokenizer.json in {pretrained_model_name_or_path}; expected the files of a Gemma 4 "
                "checkpoint, which has no other form of the vocabulary."
            )
        return super()._from_pretrained(resolved_vocab_files, pretrained_model_name_or_path, *args, **kwargs)

    def _save_pretrained(
        self,
        save_directory: str | os.PathLike,
        file_names: tuple[str, ...],
        legacy_format: bool | None = None,
        filename_prefix: str | None = None,
    ) -> tuple[str, ...]:
        # The step of `save_pretrained` between writing the configuration files, named here, and uploading them.
        config_file, special_tokens_file, *others = (Path(file) for file in file_names)
        config = json.loads(config_file.read_text(encoding="utf-8"))
        for key in _REDUNDANT_KEYS:
            config.pop(key, None)
        config["extra_special_tokens"] = [str(token) for token in self.additional_special_tokens]
        config_file.write_text(
            json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        special_tokens_file.unlink()
        kept = tuple(str(file) for file in (config_file, *others))
        return super()._save_pretrained(save_directory, kept, legacy_format, filename_prefix)


class GemmaTokenizerByFiles:
    """Chooses the tokenizer class for folders whose files say `GemmaTokenizer`: all Gemma generations do.

    `AutoTokenizer` resolves that name before it looks at any configuration class, so the choice is made by the files:
    the list form of `extra_special_tokens` is what transformers 4.57's own class cannot read. All other folders get
    `GemmaTokenizerFast` as before.
    """

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike, *args: Any, **kwargs: Any
    ) -> PreTrainedTokenizerBase:
        """Loads the tokenizer; arguments and errors as for `AutoTokenizer.from_pretrained`."""
        config = get_tokenizer_config(pretrained_model_name_or_path, **kwargs)
        is_published_form = isinstance(config.get("extra_special_tokens"), list)
        tokenizer_class = GemmaTokenizer if is_published_form else GemmaTokenizerFast
        return tokenizer_class.from_pretrained(pretrained_model_name_or_path, *args, **kwargs)


def load_tokenizer(pretrained_model_name_or_path: str | os.PathLike, **hub_kwargs: Any) -> GemmaTokenizer:
    """Loads a Gemma 4 tokenizer without going through `AutoTokenizer`.

    Args:
        pretrained_model_name_or_path: a folder or a Hub id.
        **hub_kwargs: `revision`, `token`, `cache_dir`, `subfolder`, `local_files_only`, ...

    Returns:
        The tokenizer.

    Raises:
        ValueError: if there is no tokenizer.json in the folder or repository.
        OSError: if there is no such folder or repository.
    """
    return GemmaTokenizer.from_pretrained(pretrained_model_name_or_path, **hub_kwargs)
