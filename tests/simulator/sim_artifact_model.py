# SPDX-License-Identifier: Apache-2.0
"""Exports the bundle of `test_sim_new_process.py`."""

import torch
from sim_bundles import Instance, Memory, builder, perceptron_weights


class Secret(Memory):
    """A module that the process which runs the artifact does not have."""

    def forward(self, x, position):
        total, ring, log = super().forward(x, position)
        return [total + torch.arange(4.0), ring, log]


def export(folder, tp: int) -> None:
    """Writes model.pt and the ranks' weights into the folder."""
    examples = (torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64))
    traced = builder(folder, tp, perceptron_weights()).add("m", Instance(Secret, ["ring", "log"]), [examples])
    torch.jit.save(traced.trace(initialize_model_weights=False), folder / "model.pt")
    traced.shard_checkpoint(str(folder))


def reference(steps: int) -> list[list[float]]:
    """What the artifact answers, step by step."""
    from sim_bundles import perceptron

    weights, ring, log, answers = perceptron_weights(), torch.zeros(2, 4), torch.zeros(5, 4), []
    for step in range(steps):
        ring[step % 2] = log[step] = perceptron(weights, torch.full((4,), float(step)))
        answers.append((ring.sum(0) + 10 * log.sum(0) + torch.arange(4.0)).tolist())
    return answers


__all__ = ["export", "reference"]
