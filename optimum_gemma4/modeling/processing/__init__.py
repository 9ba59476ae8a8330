# SPDX-License-Identifier: Apache-2.0
"""Everything before the graphs, on the host: tokenizer, image processor, processor. numpy and Pillow only."""

from .image_processor import Gemma4ImageProcessor, soft_token_counts, target_size
from .processor import Gemma4Processor
from .registration import register
from .tokenizer import GemmaTokenizer, load_tokenizer


__all__ = [
    "Gemma4ImageProcessor",
    "Gemma4Processor",
    "GemmaTokenizer",
    "load_tokenizer",
    "register",
    "soft_token_counts",
    "target_size",
]
