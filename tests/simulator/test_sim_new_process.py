# SPDX-License-Identifier: Apache-2.0
"""An artifact runs in another process, where neither the model's source nor optimum-neuron can be imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sim_artifact_model import export, reference
from test_sim_activation import ALONE


RUN = """
import json, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("sim_artifact_model", "sim_bundles", "optimum", "transformers"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
activate()
import torch, torch_neuronx
from safetensors.torch import load_file
folder, tp, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
model = torch.jit.load(folder + "/model.pt")
weights = [load_file(f"{folder}/tp{rank}_sharded_checkpoint.safetensors") for rank in range(tp)]
model.nxd_model.initialize(weights, torch.tensor([0], dtype=torch.int32))
answers = [model(torch.full((1, 4), float(step)), torch.tensor([step])).tolist() for step in range(steps)]
print(json.dumps(answers))
"""


@pytest.mark.parametrize("tp", [1, 4])
def test_the_artifact_needs_no_source_of_the_model(tmp_path, tp):
    export(tmp_path, tp)
    package = Path(__file__).parents[2] / "optimum_gemma4"
    code = ALONE.format(path=str(package)) + RUN
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(tp), "5"], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    torch.testing.assert_close(torch.tensor(json.loads(result.stdout)), torch.tensor(reference(5)))
