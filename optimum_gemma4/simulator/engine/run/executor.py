# SPDX-License-Identifier: Apache-2.0
"""The TorchScript module that a trace returns: callable with the inputs, saved and loaded by torch.jit.

It has the interface of the SDK's executor: `model(*inputs)` and `model.nxd_model.initialize(checkpoint, start_rank)`.
Its number of inputs is fixed, because that of the SDK's is.
"""

import torch
from torch import nn


class NxDModel(nn.Module):
    """Holds a stored bundle and forwards to the simulator's runtime."""

    def __init__(self, blob: torch.Tensor):
        super().__init__()
        self.blob = blob

    def forward(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Runs the graph that fits the shapes of the inputs."""
        return torch.ops.optimum_gemma4_simulator.execute(self.blob, inputs)

    @torch.jit.export
    def initialize(self, checkpoint: list[dict[str, torch.Tensor]], start_rank_tensor: torch.Tensor) -> None:
        """Loads the weights, one dictionary a rank, and clears the states."""
        for rank, weights in enumerate(checkpoint):
            torch.ops.optimum_gemma4_simulator.add_rank(self.blob, rank, list(weights.keys()), list(weights.values()))
        torch.ops.optimum_gemma4_simulator.initialize(self.blob, int(start_rank_tensor))


class NxDModelExecutor(nn.Module):
    """The traced model; its `forward` is defined once the number of inputs is known."""

    def __init__(self, nxd_model: NxDModel):
        super().__init__()
        self.nxd_model = nxd_model


def make_executor(data: bytes, num_inputs: int, num_outputs: int) -> torch.jit.ScriptModule:
    """Makes the module for a stored bundle.

    Returns:
        A module whose call returns a tensor when `num_outputs` is 1, and a list of tensors otherwise.
    """
    # TorchScript shares the type of modules of one class, and a type takes one `forward`: a class for each bundle.
    executor_class = type("NxDModelExecutor", (NxDModelExecutor,), {})
    executor = torch.jit.script(executor_class(NxDModel(torch.frombuffer(bytearray(data), dtype=torch.uint8))))
    names = [f"input_{i}" for i in range(num_inputs)]
    parameters = ", ".join(f"{name}: Tensor" for name in names)
    call = f"self.nxd_model.forward([{', '.join(names)}])"
    result = f"-> Tensor:\n    return {call}[0]" if num_outputs == 1 else f"-> List[Tensor]:\n    return {call}"
    executor.define(f"def forward(self, {parameters}) {result}\n")
    return executor
