# SPDX-License-Identifier: Apache-2.0
"""Calls the compiled graphs of the vision bundle: one image a call, in the smallest graph that holds its patches.

An image comes as the processor made it, padded to the processor's budget; its own patches are what counts here, so an
image that was padded for 280 soft tokens and needs 60 runs in a graph for 70. Every check is made before the first
image is encoded. pixel_values [images, P, 768], image_position_ids [images, P, 2] -> one [n, D] per image.
"""

import torch
from optimum.neuron.models.inference.backend.model_wrapper import NxDModelWrapper

from ...exporters.export_config import GraphSpec
from ..vision.spec import VisionSpec


__all__ = ["VisionGraphs"]

PADDING_PATCH = -1
PIXEL_TOLERANCE = 1e-3  # of values in 0..1, for a caller's own arithmetic


class VisionGraphs(NxDModelWrapper):
    """The vision graphs, one per image budget.

    Args:
        traced: the vision bundle.
        graphs: their declarations, smallest first.
        spec: geometry of the encoder.
    """

    def __init__(self, traced: torch.jit.ScriptModule, graphs: list[GraphSpec], spec: VisionSpec):
        super().__init__()
        self._traced = traced
        self._spec = spec
        self.patches = [graph.inputs[0].shape[1] for graph in graphs]

    def soft_tokens(self, pixel_values: torch.Tensor, image_position_ids: torch.Tensor, name: str) -> list[int]:
        """Soft tokens of each image, after every check that the images must pass.

        Args:
            pixel_values: [images, P, 768].
            image_position_ids: [images, P, 2].
            name: what messages call the images.

        Raises:
            ValueError: they are not what the processor returns, or larger than the largest graph.
        """
        self._check_tensors(pixel_values, image_position_ids, name)
        is_patch = (image_position_ids != PADDING_PATCH).all(-1)
        counts = is_patch.sum(-1).tolist()
        for index, (count, positions, mask) in enumerate(zip(counts, image_position_ids, is_patch)):
            self._check_grid(positions[mask], f"{name} {index}")
            self._check_size(count, f"{name} {index}")
        return [count // self._spec.patches_per_cell for count in counts]

    def forward(self, pixels: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Encode one image that `soft_tokens` has seen.

        Args:
            pixels: [P, 768].
            positions: [P, 2].

        Returns:
            Its soft tokens [n, D].
        """
        is_patch = (positions != PADDING_PATCH).all(-1)
        count = int(is_patch.sum())
        patches = next(size for size in self.patches if count <= size)
        padding = (0, 0, 0, patches - count)
        pixels = torch.nn.functional.pad(pixels[is_patch].float(), padding)
        positions = torch.nn.functional.pad(positions[is_patch].int(), padding, value=PADDING_PATCH)
        features = self._traced(pixels[None], positions[None])
        return features[0, : count // self._spec.patches_per_cell]

    def _check_tensors(self, pixel_values: torch.Tensor, image_position_ids: torch.Tensor, name: str) -> None:
        width = self._spec.pixels_per_patch
        for tensor, what, last in ((pixel_values, "pixels", width), (image_position_ids, "patch positions", 2)):
            shape = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            if not isinstance(tensor, torch.Tensor) or tensor.dim() != 3 or tensor.shape[2] != last:
                raise ValueError(
                    f"The {what} of the {name}s have the shape {shape}: expected a tensor [{name}s, patches, {last}], "
                    "as Gemma4Processor returns it with return_tensors='pt'."
                )
        if pixel_values.shape[:2] != image_position_ids.shape[:2]:
            raise ValueError(
                f"There are pixels of {tuple(pixel_values.shape[:2])} and positions of "
                f"{tuple(image_position_ids.shape[:2])} {name}s and patches: they must agree."
            )
        if not pixel_values.is_floating_point() or image_position_ids.dtype not in (torch.int32, torch.int64):
            raise ValueError(
                f"The {name}s have {pixel_values.dtype} pixels and {image_position_ids.dtype} positions: expected "
                "floating-point pixels in 0..1 and integer positions."
            )
        low, high = pixel_values.aminmax() if pixel_values.numel() else (torch.zeros(()), torch.zeros(()))
        if not (low >= -PIXEL_TOLERANCE and high <= 1 + PIXEL_TOLERANCE):
            raise ValueError(
                f"Pixels of the {name}s go from {float(low):.4g} to {float(high):.4g}: expected 0..1, which the "
                "encoder itself brings to -1..1. Rescale them once, and do not normalise them (do_normalize=False)."
            )

    def _check_grid(self, positions: torch.Tensor, name: str) -> None:
        """Every patch of a rectangle of whole cells, once."""
        side, limit = self._spec.pooling_kernel_size, self._spec.position_embedding_size
        if len(positions):
            width, height = (positions.amax(0) + 1).tolist()
            patches = (positions[:, 1] * width + positions[:, 0]).sort().values
            in_table = int(positions.min()) >= 0 and max(width, height) <= limit
            whole_cells = width % side == 0 and height % side == 0
            if in_table and whole_cells and torch.equal(patches, torch.arange(width * height).to(patches)):
                return
        raise ValueError(
            f"The positions of {name} ({len(positions)} patches) are not those of one rectangle of {side} x {side} "
            f"patches, at most {limit} patches long: expected image_position_ids as Gemma4Processor returns them."
        )

    def _check_size(self, count: int, name: str) -> None:
        cell = self._spec.patches_per_cell
        if count > self.patches[-1]:
            raise ValueError(
                f"{name} has {count // cell} soft tokens and the largest compiled budget is "
                f"{self.patches[-1] // cell}: call the processor with max_soft_tokens={self.patches[-1] // cell}, or "
                f"export with a larger --max_soft_tokens."
            )
