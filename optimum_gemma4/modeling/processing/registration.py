# SPDX-License-Identifier: Apache-2.0
"""Makes transformers' Auto classes find the Gemma 4 tokenizer, image processor and processor.

The processors are found by their class through the public `register()` functions. The tokenizer is not: published
files say `GemmaTokenizer`, and transformers 4.57 resolves a name from its table of models before it looks at anything
registered. So the table gets one more row, in front, that leads to `GemmaTokenizerByFiles`; the rows of the other
Gemma generations, and their tokenizers, stay what they are.
"""

from __future__ import annotations

import sys
from types import ModuleType

from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

from ..configuration import Gemma4Config, Gemma4TextConfig
from .image_processor import Gemma4ImageProcessor
from .processor import Gemma4Processor
from .tokenizer import GemmaTokenizer, GemmaTokenizerByFiles


# A row of the table is a model type, whose module is looked for under `transformers.models`.
_ROW = "optimum_gemma4"
_MODULE = f"transformers.models.{_ROW}"
_PUBLISHED_NAME = "GemmaTokenizerFast"


def register() -> None:
    """Registers the Gemma 4 classes; does nothing the second time, or if transformers has Gemma 4 itself."""
    if "gemma4" in CONFIG_MAPPING_NAMES or _ROW in TOKENIZER_MAPPING_NAMES:
        return
    for config_class in (Gemma4Config, Gemma4TextConfig):
        AutoTokenizer.register(config_class, fast_tokenizer_class=GemmaTokenizer, exist_ok=True)
    AutoImageProcessor.register(Gemma4Config, slow_image_processor_class=Gemma4ImageProcessor, exist_ok=True)
    AutoProcessor.register(Gemma4Config, Gemma4Processor, exist_ok=True)
    module = ModuleType(_MODULE, __doc__)
    setattr(module, _PUBLISHED_NAME, GemmaTokenizerByFiles)
    sys.modules[_MODULE] = module
    TOKENIZER_MAPPING_NAMES[_ROW] = (None, _PUBLISHED_NAME)
    TOKENIZER_MAPPING_NAMES.move_to_end(_ROW, last=False)
