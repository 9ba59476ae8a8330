# SPDX-License-Identifier: Apache-2.0
"""What a Gemma 4 artifact was compiled for: optimum-neuron's `NxDNeuronConfig` and what Gemma 4 adds to it.

Every argument of optimum-neuron keeps its meaning. The additions are the prompt lengths that have a prefill graph of
their own, the kernels, the image budgets, and which backend (the Neuron SDK or the simulator) made the artifact:
`from_dict` refuses the other one's artifacts. Written to `neuron_config.json`, read back by
`NeuronConfig.from_pretrained`.
"""

from typing import Any

from optimum.neuron.configuration_utils import register_neuron_config
from optimum.neuron.models.inference.backend.config import NxDNeuronConfig

from ..modeling.processing.image_processor import SUPPORTED_SOFT_TOKENS
from ..simulator import backend_name
from ..version import __version__


__all__ = ["Gemma4NeuronConfig", "default_prefill_buckets"]

SMALLEST_BUCKET = 128
LARGEST_INTEGER = 2**31 - 1  # positions and rows are int32 in the graphs
IMAGE_MARKERS = 2  # tokens around the soft tokens of an image
# A prompt is padded to less than this many times its length, at one compilation per bucket.
BUCKET_GROWTH = 4


def default_prefill_buckets(max_context_length: int) -> list[int]:
    """Prompt lengths to compile: 128, 512, 2048, ... up to and including `max_context_length` (in tokens)."""
    buckets = []
    size = SMALLEST_BUCKET
    while 2 * size <= max_context_length:
        buckets.append(size)
        size *= BUCKET_GROWTH
    return [*buckets, max_context_length]


@register_neuron_config
class Gemma4NeuronConfig(NxDNeuronConfig):
    """Static shapes and options of the compiled graphs.

    Args:
        prefill_buckets (`list[int]`, *optional*): prompt lengths, in tokens, that get a prefill graph. The last one is
            the longest prompt, `max_context_length`. Defaults to `default_prefill_buckets(max_context_length)`.
        nki_kernels (`bool`, defaults to `True`): use the NKI attention kernels where they help.
        attention_kernels (`list[dict]`, *optional*): which attention runs as a kernel (`kernel_record`); set by the
            export.
        max_soft_tokens (`list[int]` or `int`, *optional*): image budgets, in soft tokens, that get a vision graph
            each; `None` for an artifact that takes no images.
        max_images (`int`, *optional*): images in one prompt; as many as the longest prompt holds when absent.
        backend (`str`, *optional*): "neuron" or "simulator", whichever compiles.
        package_version (`str`, *optional*): version of this package that compiled.
        kwargs: arguments of `NxDNeuronConfig`.

    Raises:
        ValueError: an argument, or a combination of arguments, that cannot be compiled.
    """

    def __init__(
        self,
        prefill_buckets: list[int] | None = None,
        nki_kernels: bool = True,
        attention_kernels: list[dict[str, Any]] | None = None,
        max_soft_tokens: list[int] | int | None = None,
        max_images: int | None = None,
        backend: str | None = None,
        package_version: str | None = None,
        **kwargs: Any,
    ) -> None:
        if prefill_buckets and kwargs.get("max_context_length") is None:
            kwargs["max_context_length"] = prefill_buckets[-1]
        super().__init__(**kwargs)
        self._check_shapes()
        if prefill_buckets is None:
            prefill_buckets = default_prefill_buckets(self.max_context_length)
        self.prefill_buckets = self._checked_buckets(prefill_buckets)
        self.nki_kernels = nki_kernels
        self.attention_kernels = attention_kernels
        self.max_soft_tokens = None if max_soft_tokens is None else self._checked_budgets(max_soft_tokens)
        self.max_images = max_images
        self._check_max_images()
        self.backend = backend_name() if backend is None else backend
        self.package_version = __version__ if package_version is None else package_version

    def _check_shapes(self) -> None:
        for name in ("batch_size", "sequence_length", "tp_degree", "max_context_length"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= LARGEST_INTEGER:
                flag = "tensor_parallel_size" if name == "tp_degree" else name
                raise ValueError(f"{name} is {value!r}: expected an integer of 1 to {LARGEST_INTEGER} (--{flag}).")
        if self.sequence_length < 2:
            raise ValueError(
                f"sequence_length is {self.sequence_length}: a prompt token and a new token need at least 2 "
                "(--sequence_length)."
            )
        if not 2 <= self.max_context_length <= self.sequence_length:
            raise ValueError(
                f"max_context_length is {self.max_context_length}: expected 2 to sequence_length "
                f"({self.sequence_length}). It is --max_context_length, or the last of --prefill_buckets."
            )
        if self.max_batch_size != self.batch_size:
            raise ValueError(
                f"max_batch_size is {self.max_batch_size} and batch_size {self.batch_size}: the KV cache has one row "
                "per sequence of the decoding batch, they must be equal."
            )
        if self.output_logits and not self.on_device_sampling:
            raise ValueError(
                "output_logits adds the logits to the tokens of on-device sampling: without on_device_sampling the "
                "logits are the output already, leave it out."
            )
        unsupported = {"speculation_length": 0, "fused_qkv": False, "pp_degree": 1, "ep_degree": 1}
        for name, supported in unsupported.items():
            if getattr(self, name) != supported:
                raise ValueError(f"{name} is {getattr(self, name)!r}: Gemma 4 is exported with {name}={supported}.")

    def _checked_buckets(self, buckets: list[int]) -> list[int]:
        """Prefill graphs are told apart from the decode graph, and from each other, by their length alone."""
        ascending = all(small < large for small, large in zip(buckets, buckets[1:]))
        if not buckets or not ascending or buckets[0] < 2 or buckets[-1] != self.max_context_length:
            raise ValueError(
                f"prefill_buckets is {buckets}: expected ascending lengths of at least 2 tokens that end with "
                f"max_context_length ({self.max_context_length})."
            )
        return list(buckets)

    def _checked_budgets(self, budgets: list[int] | int) -> list[int]:
        budgets = [budgets] if isinstance(budgets, int) else list(budgets)
        if not budgets or not set(budgets) <= set(SUPPORTED_SOFT_TOKENS):
            raise ValueError(
                f"max_soft_tokens is {budgets}: expected image budgets among {list(SUPPORTED_SOFT_TOKENS)} "
                "(--max_soft_tokens)."
            )
        if max(budgets) + IMAGE_MARKERS > self.max_context_length:
            raise ValueError(
                f"max_soft_tokens is {budgets} and the longest prompt has {self.max_context_length} tokens: an image "
                f"of {max(budgets)} with its {IMAGE_MARKERS} markers does not fit. Raise --sequence_length (and "
                "--max_context_length), lower --max_soft_tokens, or export with --task text-generation."
            )
        return sorted(set(budgets))

    def _check_max_images(self) -> None:
        if self.max_images is None:
            return
        if self.max_soft_tokens is None:
            raise ValueError(f"max_images is {self.max_images}, but without max_soft_tokens there are no images.")
        if not isinstance(self.max_images, int) or self.max_images < 1:
            raise ValueError(f"max_images is {self.max_images!r}: expected an integer of at least 1 (--max_images).")

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any]) -> "Gemma4NeuronConfig":
        """Instantiate from the content of `neuron_config.json`.

        Raises:
            ValueError: the artifact was not made by this package, or was compiled by the other backend.
        """
        key = config_dict.get("_serialized_key")
        if key != cls.__name__:
            raise ValueError(
                f"This artifact holds a {key}, not a {cls.__name__}: it was not exported by optimum_gemma4. "
                "Export the checkpoint again with optimum-cli export neuron."
            )
        compiled_by, current = config_dict.get("backend"), backend_name()
        if compiled_by != current:
            raise ValueError(
                f"This artifact was compiled by the {compiled_by} backend and this process runs the {current} one: "
                f"export it again here, or set OPTIMUM_GEMMA4_BACKEND={compiled_by} where that is installed."
            )
        return super().from_dict(config_dict)
