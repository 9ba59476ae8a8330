# SPDX-License-Identifier: Apache-2.0
"""CPU stand-ins for the AWS Neuron SDK, so that optimum-neuron's own code runs unmodified without it.

`activate()` decides, once per process, between the installed SDK and the simulator, and installs the import finder of
the simulator when it is chosen. All or nothing: either every one of `torch_neuronx`, `neuronx_distributed`,
`neuronxcc`, `libneuronxla` and `torch_xla` comes from this folder, or none does. See README.md for what is imitated.
"""

from .activation import activate, backend_name


__all__ = ["activate", "backend_name"]
