# SPDX-License-Identifier: Apache-2.0
"""A user's process: answers each line of questions from stdin with a line of results on stdout, see `hub_client`.

A question is `{"token": ..., "steps": [[action, *arguments], ...]}`; an error is a result too.
"""

import json
import os
import sys
from types import SimpleNamespace

import torch
from huggingface_hub.utils import _http
from PIL import Image
from transformers import AutoProcessor

from optimum_gemma4 import NeuronModelForCausalLM, NeuronModelForImageTextToText, pipeline
from optimum_gemma4.exporters.hub import push_artifact


PROMPT = [5, 17, 42, 9]
GREEDY = {"max_new_tokens": 12, "do_sample": False}


def pull(repo_id: str, revision: str | None) -> list[int]:
    """Tokens of a text model from the Hub."""
    model = NeuronModelForCausalLM.from_pretrained(repo_id, revision=revision)
    return model.generate(torch.tensor([PROMPT]), **GREEDY)[0].tolist()


def load(repo_id: str, revision: str | None) -> str:
    """The class of an image model from the Hub."""
    return type(NeuronModelForImageTextToText.from_pretrained(repo_id, revision=revision)).__name__


def pull_and_see(repo_id: str, revision: str | None, picture: str) -> list[int]:
    """Tokens about a picture, of a model and its processor from the Hub."""
    processor = AutoProcessor.from_pretrained(repo_id, revision=revision)
    model = NeuronModelForImageTextToText.from_pretrained(repo_id, revision=revision)
    inputs = processor(images=Image.open(picture), text="<bos><|image|>", return_tensors="pt")
    return model.generate(**inputs, **GREEDY)[0].tolist()


def describe(repo_id: str, revision: str | None, picture: str, question: str) -> str:
    """What the pipeline answers."""
    chat = [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": question}]}]
    answers = pipeline("image-text-to-text", model=repo_id, revision=revision)
    (result,) = answers(chat, max_new_tokens=20, do_sample=False)
    return result["generated_text"][-1]["content"]


def push_model(folder: str, repo_id: str, branch: str) -> object:
    """By the model's own method."""
    return NeuronModelForCausalLM.from_pretrained(folder).push_to_hub(folder, repo_id, revision=branch)


ACTIONS = {
    "push": push_artifact,
    "push model": push_model,
    "pull": pull,
    "load": load,
    "pull and see": pull_and_see,
    "pipeline": describe,
}


def result_of(action: str, *arguments: str | None) -> object:
    """Of one step."""
    try:
        return ACTIONS[action](*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    answers, sys.stdout = sys.stdout, sys.stderr  # the libraries' own output is no answer
    _http.time = SimpleNamespace(sleep=lambda seconds: None)  # the client tries again at once, not after 23 seconds
    for line in sys.stdin:
        question = json.loads(line)
        os.environ["HF_TOKEN"] = question["token"]
        answers.write(json.dumps([result_of(*step) for step in question["steps"]]) + "\n")
        answers.flush()
