# SPDX-License-Identifier: Apache-2.0
"""Calls the compiled graphs of the text bundle: picks the graph, fills its static shape, takes the caller's rows back.

A call with more than one column is a prefill, a call with one column a decode step: that is what the graphs' shapes
say, nothing is guessed from values. Cache row `r` belongs to seq_id `r`. A graph over the whole batch gets every row
at its place; the rows that are not in the call hold padding (position -1), which reads and writes no cache slot, so
they keep what they hold. Takes the place of optimum-neuron's `NxDDecoderWrapperForCausalLM`, which repeats the first
row there and pads positions with 1.
"""

from collections.abc import Callable

import torch
from optimum.neuron.models.inference.backend.model_wrapper import NxDModelWrapper

from ..exporters.export_config import GraphSpec
from .images.inputs import ImageInputs
from .prompts import PADDING_POSITION


__all__ = ["DecodeGraph", "PrefillGraphs"]

IMAGE_FEATURES = "image_features"
GREEDY = 1.0  # top_k 1, top_p 1, temperature 1


def _select_rows(outputs: torch.Tensor | list[torch.Tensor], rows: torch.Tensor) -> torch.Tensor | tuple:
    if isinstance(outputs, torch.Tensor):
        return outputs[rows]
    return tuple(output[rows] for output in outputs)


def _concatenate(outputs: list) -> torch.Tensor | tuple:
    if isinstance(outputs[0], torch.Tensor):
        return torch.cat(outputs)
    return tuple(torch.cat(parts) for parts in zip(*outputs))


class _TextGraph(NxDModelWrapper):
    """What both kinds of graph share.

    Args:
        traced: the text bundle.
        graphs: the declared graphs, of different lengths.
        pad_token_id: token where there is none.
    """

    def __init__(self, traced: torch.jit.ScriptModule, graphs: list[GraphSpec], pad_token_id: int):
        super().__init__()
        self._traced = traced
        self._batch = graphs[0].inputs[0].shape[0]
        self._pad_token_id = pad_token_id
        self._features = {
            graph.inputs[0].shape[1]: spec for graph in graphs for spec in graph.inputs if spec.name == IMAGE_FEATURES
        }

    def _run(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        seq_ids: torch.Tensor,
        sampling_params: torch.Tensor,
        images: ImageInputs | None,
    ) -> torch.Tensor | list[torch.Tensor]:
        image_inputs = () if images is None else images.tensors(self._features[input_ids.shape[1]])
        return self._traced(input_ids.int(), position_ids.int(), seq_ids.int(), sampling_params.float(), *image_inputs)

    def _run_whole_batch(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        seq_ids: torch.Tensor,
        sampling_params: torch.Tensor,
        images: ImageInputs | None,
    ) -> torch.Tensor | tuple:
        """Run with row `r` at seq_id `r`, and return the rows of the call in its order."""

        def placed(values: torch.Tensor, fill: float) -> torch.Tensor:
            rows = values.new_full((self._batch, *values.shape[1:]), fill)
            rows[seq_ids] = values
            return rows

        outputs = self._run(
            placed(input_ids, self._pad_token_id),
            placed(position_ids, PADDING_POSITION),
            torch.arange(self._batch),
            placed(sampling_params, GREEDY),
            None if images is None else images.placed(seq_ids, self._batch),
        )
        return _select_rows(outputs, seq_ids)


class PrefillGraphs(_TextGraph):
    """The prefill graphs: the shortest one that holds the prompt runs.

    Args:
        traced: the text bundle.
        graphs: the declared prefill graphs, shortest first.
        pad_token_id: token at padding positions.
    """

    def __init__(self, traced: torch.jit.ScriptModule, graphs: list[GraphSpec], pad_token_id: int):
        super().__init__(traced, graphs, pad_token_id)
        self.lengths = [graph.inputs[0].shape[1] for graph in graphs]

    def bucket(self, prompt_length: int) -> int:
        """Length of the shortest graph that holds `prompt_length` tokens.

        Raises:
            ValueError: none does.
        """
        for length in self.lengths:
            if prompt_length <= length:
                return length
        raise ValueError(
            f"A prompt of {prompt_length} tokens is longer than the {self.lengths[-1]} that were compiled, and a "
            "prompt is encoded as a whole: shorten it (text, or number and max_soft_tokens of its images), or export "
            f"with a --sequence_length (and --max_context_length) of at least {prompt_length}."
        )

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        seq_ids: torch.Tensor,
        sampling_params: torch.Tensor,
        images: ImageInputs | None = None,
    ) -> torch.Tensor | tuple:
        """Encode prompts `[n, S]` into the cache rows `seq_ids [n]`; the last token's outputs, one row per prompt.

        `images` are the image inputs of the same rows, for graphs that have any.
        """
        if self._batch > 1:
            return self._encode(self._run_whole_batch, input_ids, position_ids, seq_ids, sampling_params, images)
        arguments = (input_ids, position_ids, seq_ids, sampling_params)
        return _concatenate(
            [
                self._encode(
                    self._run,
                    *(value[row : row + 1] for value in arguments),
                    None if images is None else images.row(row),
                )
                for row in range(input_ids.shape[0])
            ]
        )

    def _encode(
        self,
        run: Callable,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        seq_ids: torch.Tensor,
        sampling_params: torch.Tensor,
        images: ImageInputs | None,
    ) -> torch.Tensor | tuple:
        padding = self.bucket(int(position_ids.max()) + 1) - input_ids.shape[1]
        # A negative padding cuts columns that hold padding only.
        input_ids = torch.nn.functional.pad(input_ids, (0, padding), value=self._pad_token_id)
        position_ids = torch.nn.functional.pad(position_ids, (0, padding), value=PADDING_POSITION)
        images = None if images is None else images.padded(padding)
        return run(input_ids, position_ids, seq_ids, sampling_params, images)


class DecodeGraph(_TextGraph):
    """The decode graph: one token for each row.

    Args:
        traced: the text bundle.
        graph: the declared decode graph.
        pad_token_id: token of rows that are not in the call.
        sequence_length: positions must be below.
    """

    def __init__(self, traced: torch.jit.ScriptModule, graph: GraphSpec, pad_token_id: int, sequence_length: int):
        super().__init__(traced, [graph], pad_token_id)
        self._sequence_length = sequence_length

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        seq_ids: torch.Tensor,
        sampling_params: torch.Tensor,
        images: ImageInputs | None = None,
    ) -> torch.Tensor | tuple:
        """Append tokens `[n, 1]` at `position_ids [n, 1]` to the rows `seq_ids [n]`; outputs, one row per token.

        Raises:
            ValueError: a position is not below the compiled sequence length.
        """
        last = int(position_ids.max())
        if last >= self._sequence_length or int(position_ids.min()) < 0:
            raise ValueError(
                f"position_ids holds {position_ids.flatten().tolist()}: the artifact was compiled for positions 0 to "
                f"{self._sequence_length - 1}. Export with --sequence_length {last + 1} or more."
            )
        return self._run_whole_batch(input_ids, position_ids, seq_ids, sampling_params, images)
