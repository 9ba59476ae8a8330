# SPDX-License-Identifier: Apache-2.0
"""The door to the trace API: what it keeps the SDK from doing to an export."""

import os

import pytest
from optimum.neuron.models.inference.backend.pretrained_model import NxDPreTrainedModel

from optimum_gemma4.exporters.backend import WORK_DIR_VARIABLE, trace_bundle


def test_weights_in_another_layout_than_saved_are_refused(monkeypatch):
    """Upstream transforms its shards after saving them; shards of Gemma 4 would be read as something else."""
    monkeypatch.setenv("NXD_LAYOUT_TRANSFORMATION_OPTIONS", "NXD_LAYOUT_ON_CPU_AND_SERIALIZE")
    with pytest.raises(ValueError, match="NXD_LAYOUT_TRANSFORMATION_OPTIONS is 'NXD_LAYOUT_ON_CPU.*Unset it"):
        trace_bundle({}, None, "")


def test_every_trace_has_a_compiler_directory_of_its_own(monkeypatch):
    """The SDK empties the one that it is given, in the shared default also another export's."""
    monkeypatch.delenv(WORK_DIR_VARIABLE, raising=False)
    used = []
    monkeypatch.setattr(NxDPreTrainedModel, "compile", lambda *args: used.append(os.environ[WORK_DIR_VARIABLE]))
    for _ in range(2):
        trace_bundle({}, None, "")
    assert len(set(used)) == 2 and WORK_DIR_VARIABLE not in os.environ
    monkeypatch.setenv(WORK_DIR_VARIABLE, "/somewhere/")
    trace_bundle({}, None, "")
    assert used[-1] == os.environ[WORK_DIR_VARIABLE] == "/somewhere/"
