# SPDX-License-Identifier: Apache-2.0
"""Versions that the simulated packages report: those that optimum-neuron 0.4.5 pins (SDK 2.26).

The local label `+simulated` makes every place where a version is recorded (neuron_config.json, cache entries) say that
no compiler was involved; PEP 440 orders it after the version without it, so that version checks behave alike.
"""

_LABEL = "+simulated"

TORCH_NEURONX = "2.8.0.2.10.16998" + _LABEL
NEURONX_DISTRIBUTED = "0.15.22404" + _LABEL
NEURONX_CC = "2.21.33363.0" + _LABEL
LIBNEURONXLA = "2.2.12677.0" + _LABEL
TORCH_XLA = "2.8.1" + _LABEL

DISTRIBUTIONS = {
    "torch-neuronx": TORCH_NEURONX,
    "neuronx-distributed": NEURONX_DISTRIBUTED,
    "neuronx-cc": NEURONX_CC,
    "libneuronxla": LIBNEURONXLA,
    "torch-xla": TORCH_XLA,
}
