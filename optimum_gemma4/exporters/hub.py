# SPDX-License-Identifier: Apache-2.0
"""Artifacts on the Hub: the model card, and a push that leaves out what the Hub has already.

A compiled artifact is of use to those who have the same instance type, lengths and versions, so the card says all of
them and how to load. The weights of a checkpoint that is on the Hub are not uploaded again: `from_pretrained` fetches
them from there, at the commit that was exported.
"""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, ModelCardData
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import Timeout

from .artifact import CHECKPOINT_FOLDER, NEURON_CONFIG
from .tasks import IMAGE_TASK, TEXT_TASK


__all__ = ["model_card", "push_artifact"]

LIBRARY = "optimum-neuron"
CARD = "README.md"
MODEL_CLASSES = {TEXT_TASK: "NeuronModelForCausalLM", IMAGE_TASK: "NeuronModelForImageTextToText"}
_REFUSED_TOKEN = (401, 403)


def model_card(folder: Path, repo_id: str) -> str:
    """The card of an artifact: what it was made from and for, and how to load it.

    Args:
        folder: The artifact.
        repo_id: Where it will be.

    Raises:
        ValueError: the folder is not an export.
    """
    recorded = _recorded(folder)
    task = IMAGE_TASK if recorded.get("max_soft_tokens") else TEXT_TASK
    base_model = recorded.get("checkpoint_id")
    metadata = ModelCardData(
        library_name=LIBRARY,
        pipeline_tag=task,
        base_model=base_model,
        tags=["neuron", "gemma4", "optimum_gemma4", recorded["target"]],
    )
    rows = {
        "Base model": f"[{base_model}](https://huggingface.co/{base_model})" if base_model else "a local checkpoint",
        "Revision": recorded.get("checkpoint_revision"),
        "Instance type": recorded["target"],
        "Tensor parallel size": recorded["tp_degree"],
        "Batch size": recorded["batch_size"],
        "Sequence length": recorded["sequence_length"],
        "Longest prompt": recorded["max_context_length"],
        "Prefill graphs": ", ".join(map(str, recorded["prefill_buckets"])),
        "Soft tokens per image": ", ".join(map(str, recorded.get("max_soft_tokens") or ())),
        "Images per prompt": recorded.get("max_images"),
        "Dtype": recorded["torch_dtype"],
        "Sampling": "on the device" if recorded["on_device_sampling"] else "on the host",
        "Compiled by": f"the {recorded['backend']} backend, neuronx-cc {recorded['neuronxcc_version']}",
        "optimum-neuron": recorded["optimum_neuron_version"],
        "optimum_gemma4": recorded["package_version"],
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items() if value not in (None, ""))
    simulated = (
        "\n**Compiled by the simulator: runs on CPUs only.** Export the base model on a Neuron instance for the device.\n"
        if recorded["backend"] == "simulator"
        else ""
    )
    return f"""---
{metadata.to_yaml()}
---

# {repo_id.split("/")[-1]}

Gemma 4, exported to AWS Neuron by optimum_gemma4.
{simulated}
| | |
|---|---|
{table}

```python
from optimum_gemma4 import {MODEL_CLASSES[task]}

model = {MODEL_CLASSES[task]}.from_pretrained("{repo_id}")
```
"""


def push_artifact(
    folder: str | Path,
    repo_id: str,
    private: bool | None = None,
    revision: str | None = None,
    token: bool | str | None = None,
    endpoint: str | None = None,
) -> str:
    """Uploads an artifact in one commit, with a model card unless it has one.

    Args:
        folder: The artifact.
        repo_id: "organisation/name"; made when it does not exist.
        private: Whether a repository that is made is private.
        revision: Branch to commit to; made when it does not exist.
        token: Of the Hub; the one that was stored at login by default.
        endpoint: Another Hub than huggingface.co.

    Returns:
        The commit's hash, which `from_pretrained(repo_id, revision=...)` takes.

    Raises:
        ValueError: the folder is not an export, or the Hub refuses the token or the repository.
        ConnectionError: the Hub cannot be reached, or the connection was cut; nothing was committed.
    """
    folder = Path(folder)
    on_the_hub = _recorded(folder).get("checkpoint_id") is not None
    operations = [
        CommitOperationAdd(path.relative_to(folder).as_posix(), str(path))
        for path in _files(folder)
        if not (on_the_hub and path.is_relative_to(folder / CHECKPOINT_FOLDER))
    ]
    if not (folder / CARD).exists():
        operations.append(CommitOperationAdd(CARD, model_card(folder, repo_id).encode()))
    api = HfApi(endpoint=endpoint, token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.create_commit(
            repo_id, operations, commit_message="Upload an optimum_gemma4 export", revision=revision
        )
    except (RequestsConnectionError, Timeout, RuntimeError) as error:
        # A RuntimeError is the client's word for a large file whose upload ended early
        raise ConnectionError(f"{repo_id} was not pushed, nothing was committed: {_line(error)}") from error
    except LocalTokenNotFoundError as error:
        raise ValueError(f"{repo_id} was not pushed: log in with `hf auth login`, or give token=") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        advice = "check the token and its right to write there" if status in _REFUSED_TOKEN else "check repository_id"
        raise ValueError(f"{repo_id} was not pushed, {advice}: {_line(error)}") from error
    return commit.oid


def _files(folder: Path) -> list[Path]:
    """Files of the artifact; hidden folders (a client's cache, version control) are not part of it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _recorded(folder: Path) -> dict[str, Any]:
    file = Path(folder) / NEURON_CONFIG
    if not file.is_file():
        raise ValueError(f"{folder} has no {NEURON_CONFIG}: push a folder that optimum-cli export neuron wrote")
    return json.loads(file.read_text(encoding="utf-8"))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
