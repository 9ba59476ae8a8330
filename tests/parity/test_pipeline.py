# SPDX-License-Identifier: Apache-2.0
"""`pipeline("text-generation")` on an exported model, and what optimum-neuron's own pipeline needs of an artifact.

optimum-neuron's pipeline ends in transformers': it reads the neuron configuration of the folder, asks transformers for
the folder's preprocessor, takes that for the tokenizer, and hands both on.
"""

from pathlib import Path

import pytest
from optimum.neuron.configuration_utils import NeuronConfig
from parity_prompts import SERVED
from transformers import AutoTokenizer, PreTrainedTokenizerBase, pipeline
from transformers.onnx.utils import get_preprocessor

from optimum_gemma4 import NeuronModelForCausalLM
from optimum_gemma4.exporters.side_files import copy_side_files


CHECKPOINT = Path(__file__).parents[2] / "examples" / "gemma4-tiny"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
ANSWER = {"role": "assistant", "content": "The capital of France is Paris."}


@pytest.fixture(scope="module")
def folder(exports):
    folder = exports.artifact(CHECKPOINT, **SERVED)
    copy_side_files(str(CHECKPOINT), folder, budgets=None)
    return folder


@pytest.fixture(scope="module")
def generator(exports, folder):
    model = exports.model(CHECKPOINT, **SERVED)
    return pipeline("text-generation", model=model, tokenizer=AutoTokenizer.from_pretrained(folder))


def test_a_chat_is_answered(generator):
    """The pipeline's own default of 256 new tokens is more than was compiled: it is cut, not refused."""
    (result,) = generator(QUESTION, do_sample=False)
    assert result["generated_text"] == [*QUESTION, ANSWER]


def test_several_chats_run_as_one_padded_batch(generator):
    other = [{"role": "user", "content": "What is 2 + 2?"}]
    results = generator([QUESTION, other], do_sample=False, batch_size=2)
    assert [result[0]["generated_text"][-1]["content"] for result in results] == [ANSWER["content"], "2 + 2 = 4."]


def test_text_is_continued_with_the_new_text_alone(generator):
    (result,) = generator("The capital of France is", max_new_tokens=2, do_sample=False, return_full_text=False)
    assert result["generated_text"].strip().startswith("Paris")


def test_what_optimum_neurons_pipeline_hands_on_is_taken(folder):
    """The commit of a Hub id's configuration, and whether code of the repository may run: an artifact has none."""
    model = NeuronModelForCausalLM.from_pretrained(
        str(folder), revision=None, token=None, trust_remote_code=False, _commit_hash="0" * 40
    )
    assert model.neuron_config.batch_size == 2
    with pytest.raises(ValueError, match=r"\['device_map'\] are not supported"):
        NeuronModelForCausalLM.from_pretrained(str(folder), device_map="auto")


def test_the_folder_gives_optimum_neurons_pipeline_what_it_asks_for(folder):
    assert NeuronConfig.from_pretrained(folder).batch_size == 2
    assert isinstance(get_preprocessor(str(folder)), PreTrainedTokenizerBase)
