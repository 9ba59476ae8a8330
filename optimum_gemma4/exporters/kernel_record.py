# SPDX-License-Identifier: Apache-2.0
"""Which attention of an export runs as an NKI kernel, layer by layer and graph by graph, and why.

Kept in the artifact's `neuron_config.json` as `attention_kernels`, printed by `--verbose`. The choice is that of the
modules that are traced: `AttentionKernels` and the table in `nki/dispatch.py`.
"""

from transformers import PretrainedConfig

from ..modeling.geometry import TextGeometry
from ..modeling.text.attention import AttentionKernels, heads_fit_kernel
from ..nki import Call, dispatch_record
from .export_config import Gemma4TextNeuronExportConfig
from .neuron_config import Gemma4NeuronConfig


__all__ = ["kernel_record"]


def kernel_record(config: PretrainedConfig, neuron_config: Gemma4NeuronConfig) -> list[dict]:
    """The choices for the text graphs of an export; see `dispatch_record` for what an entry holds.

    Args:
        config: of the model, or of its text part.
        neuron_config: what is compiled.
    """
    geometry = TextGeometry.from_config(config)
    graphs = Gemma4TextNeuronExportConfig(config.get_text_config(), "text-generation", neuron_config)
    calls = [
        Call(graph.name, spec.index, "prefill", spec.head_dim, length)
        for graph, length in zip(graphs.prefill_graphs(), neuron_config.prefill_buckets, strict=True)
        for spec in geometry.layers
    ]
    calls += [
        Call(
            graphs.decode_graph().name, spec.index, "decode", spec.head_dim,
            spec.cache_slots(neuron_config.sequence_length), heads_fit_kernel(spec, neuron_config.tp_degree),
        )
        for spec in geometry.layers
    ]  # fmt: skip
    kernels = AttentionKernels.of(neuron_config)
    return dispatch_record(calls, kernels.lnc, kernels.platform, None if kernels.enabled else _why_off(neuron_config))


def _why_off(neuron_config: Gemma4NeuronConfig) -> str:
    if not neuron_config.nki_kernels:
        return "kernels are turned off (--no_nki)"
    dtype = str(neuron_config.torch_dtype).removeprefix("torch.")
    return f"kernels compute in bfloat16, and the model is {dtype}"
