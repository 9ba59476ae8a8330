# SPDX-License-Identifier: Apache-2.0
"""The model card of an artifact: what it was made from and for, and how to load it.

A compiled artifact is of use to those who have the same instance type, lengths and versions, so the card says all of
them. It is written from neuron_config.json alone.
"""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from .artifact import NEURON_CONFIG
from .tasks import IMAGE_TASK, TEXT_TASK


__all__ = ["model_card", "recorded_config"]

LIBRARY = "optimum-neuron"
_SIMULATED = (
    "\n**Compiled by the simulator: runs on CPUs only.** Export the base model on a Neuron instance for the device.\n"
)
_TEXT_EXAMPLE = """from transformers import AutoTokenizer

from optimum_gemma4 import NeuronModelForCausalLM

tokenizer = AutoTokenizer.from_pretrained("{repo_id}")
model = NeuronModelForCausalLM.from_pretrained("{repo_id}")
inputs = tokenizer.apply_chat_template(
    [{{"role": "user", "content": "What is the capital of France?"}}],
    add_generation_prompt=True,
    return_tensors="pt",
    return_dict=True,
)
tokens = model.generate(**inputs, max_new_tokens=40)
print(tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""
_IMAGE_EXAMPLE = """from transformers import AutoProcessor

from optimum_gemma4 import NeuronModelForImageTextToText

processor = AutoProcessor.from_pretrained("{repo_id}")
model = NeuronModelForImageTextToText.from_pretrained("{repo_id}")
question = [{{"type": "image", "image": "picture.png"}}, {{"type": "text", "text": "What is in this picture?"}}]
inputs = processor.apply_chat_template(
    [{{"role": "user", "content": question}}],
    add_generation_prompt=True,
    tokenize=True,
    return_tensors="pt",
    return_dict=True,
)
tokens = model.generate(**inputs, max_new_tokens=40)
print(processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""
_EXAMPLES = {TEXT_TASK: _TEXT_EXAMPLE, IMAGE_TASK: _IMAGE_EXAMPLE}


def recorded_config(folder: Path) -> dict[str, Any]:
    """Content of an artifact's neuron_config.json.

    Raises:
        ValueError: the folder is not an export.
    """
    file = Path(folder) / NEURON_CONFIG
    if not file.is_file():
        raise ValueError(f"{folder} has no {NEURON_CONFIG}: push a folder that optimum-cli export neuron wrote")
    return json.loads(file.read_text(encoding="utf-8"))


def model_card(folder: Path, repo_id: str) -> str:
    """The card of an artifact.

    Args:
        folder: The artifact.
        repo_id: Where it will be.

    Raises:
        ValueError: the folder is not an export.
    """
    recorded = recorded_config(folder)
    task = IMAGE_TASK if recorded["max_soft_tokens"] else TEXT_TASK
    metadata = ModelCardData(
        library_name=LIBRARY,
        pipeline_tag=task,
        base_model=recorded["checkpoint_id"],
        tags=["neuron", "gemma4", "optimum_gemma4", recorded["target"]],
    )
    table = "\n".join(f"| {name} | {value} |" for name, value in _rows(recorded, task).items() if value is not None)
    return f"""---
{metadata.to_yaml()}
---

# {repo_id.split("/")[-1]}

Gemma 4, exported to AWS Neuron by optimum_gemma4, an extension of optimum-neuron.
{_SIMULATED if recorded["backend"] == "simulator" else ""}
| | |
|---|---|
{table}

```python
{_EXAMPLES[task].format(repo_id=repo_id)}
```
"""


def _rows(recorded: dict[str, Any], task: str) -> dict[str, Any]:
    base_model = recorded["checkpoint_id"]
    rows = {
        "Base model": f"[{base_model}](https://huggingface.co/{base_model})" if base_model else "a local checkpoint",
        "Revision": recorded["checkpoint_revision"],
        "Task": task,
        "Instance type": recorded["target"],
        "Tensor parallel size": recorded["tp_degree"],
        "Batch size": recorded["batch_size"],
        "Sequence length": recorded["sequence_length"],
        "Longest prompt": recorded["max_context_length"],
        "Prefill graphs": ", ".join(map(str, recorded["prefill_buckets"])),
    }
    if task == IMAGE_TASK:
        rows |= {
            "Soft tokens per image, at most": ", ".join(map(str, recorded["max_soft_tokens"])),
            "Images per prompt": recorded["max_images"] or "as many as fit the prompt",
        }
    return rows | {
        "Dtype": recorded["torch_dtype"],
        "Sampling": "on the device" if recorded["on_device_sampling"] else "on the host",
        "Compiled by": f"the {recorded['backend']} backend, neuronx-cc {recorded['neuronxcc_version']}",
        "optimum-neuron": recorded["optimum_neuron_version"],
        "optimum_gemma4": recorded["package_version"],
    }
