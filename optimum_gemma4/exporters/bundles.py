# SPDX-License-Identifier: Apache-2.0
"""The graph builders of each bundle: which module is traced with which of the declared graphs.

The prefill graphs, one per prompt length, share one module, as do the SDK's own buckets; the decode graph has its own,
since the compiler lays the weights out for it. Both are built from the same configuration, so that weights and caches
have the same names, shapes and dtypes in every graph of the bundle, which the SDK requires. The vision graphs, one per
image budget, share one module; its bundle has no state.
"""

from functools import partial

from optimum.neuron.models.inference.backend.graph_builder import NxDGraphBuilder
from transformers import PretrainedConfig

from ..modeling.text.decoder import Gemma4TextModel
from ..modeling.vision.model import Gemma4ImageEncoder
from ..modeling.vision.spec import VisionSpec
from .backend import BundleGraphs
from .export_config import DECODE, PREFILL, VISION, Gemma4NeuronExportConfig
from .neuron_config import Gemma4NeuronConfig


__all__ = ["text_graph_builders", "vision_graph_builders"]


def text_graph_builders(
    config: PretrainedConfig, neuron_config: Gemma4NeuronConfig, task: str = "text-generation"
) -> dict[str, NxDGraphBuilder]:
    """Builders of the text bundle: prefill (all prompt lengths) and decode.

    Args:
        config: a Gemma 4 configuration, multimodal or text only.
        neuron_config: what to compile for.
        task: "image-text-to-text" adds the image inputs to every graph.
    """
    export_config = Gemma4NeuronExportConfig(config, task, neuron_config)
    make_module = partial(Gemma4TextModel, config.get_text_config(), neuron_config)
    dtype = neuron_config.torch_dtype
    return {
        PREFILL: BundleGraphs(export_config.prefill_graphs(), make_module, dtype),
        DECODE: BundleGraphs([export_config.decode_graph()], make_module, dtype, optimizes_layout=True),
    }


def vision_graph_builders(
    config: PretrainedConfig, neuron_config: Gemma4NeuronConfig, task: str = "image-text-to-text"
) -> dict[str, NxDGraphBuilder]:
    """Builder of the vision bundle: one image at a time, in one graph per budget.

    Args:
        config: the configuration of a Gemma 4 that has a vision encoder.
        neuron_config: what to compile for.
        task: "image-text-to-text".

    Raises:
        ValueError: the vision encoder cannot be split over the ranks.
    """
    spec = VisionSpec.from_config(config.vision_config, config.get_text_config().hidden_size)
    spec.check_tp(neuron_config.tp_degree)
    dtype = neuron_config.torch_dtype
    graphs = Gemma4NeuronExportConfig(config, task, neuron_config).vision_graphs()
    return {VISION: BundleGraphs(graphs, partial(Gemma4ImageEncoder, spec, dtype), dtype, optimizes_layout=True)}
