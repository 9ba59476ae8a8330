# SPDX-License-Identifier: Apache-2.0
"""Stand-in for torch_neuronx.xla_impl.custom_call_targets: the names of the layer boundary markers."""

AwsNeuronModuleMarkerStartForward = "AwsNeuronModuleMarker-Start-Forward"
AwsNeuronModuleMarkerEndForward = "AwsNeuronModuleMarker-End-Forward"
