# SPDX-License-Identifier: Apache-2.0
"""What `import optimum_gemma4` makes known, and what it leaves alone."""

import subprocess
import sys

import pytest
from checkpoints import small_config
from optimum.exporters.tasks import TasksManager
from optimum.neuron.models.auto_model import get_neuron_model_class
from transformers import AutoConfig, AutoProcessor, AutoTokenizer

import optimum_gemma4
from optimum_gemma4.exporters.registration import register
from optimum_gemma4.exporters.tasks import gemma4_task


MODEL_TYPES = ("gemma4", "gemma4_text")


@pytest.mark.parametrize("model_type", [*MODEL_TYPES, "gemma4_vision"])
def test_auto_config_knows_the_model_type(model_type):
    config = AutoConfig.for_model(model_type)
    assert config.model_type == model_type and type(config).__module__ == "optimum_gemma4.modeling.configuration"


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_optimum_neuron_finds_the_model_class(model_type):
    model_class = get_neuron_model_class(model_type, task="text-generation", mode="inference")
    assert model_class.__name__ == "Gemma4NeuronModelForCausalLM"


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_tasks_manager_knows_the_export_configuration(model_type):
    tasks = TasksManager.get_supported_tasks_for_model_type(model_type, "neuron", library_name="transformers")
    assert "text-generation" in tasks
    constructor = TasksManager.get_exporter_config_constructor(
        exporter="neuron", model_type=model_type, task="text-generation", library_name="transformers"
    )
    assert constructor.func.get_input_args_for_task("text-generation") == (
        "batch_size",
        "sequence_length",
        "tensor_parallel_size",
    )


def test_other_models_keep_their_tasks():
    import optimum.exporters.neuron.model_configs  # noqa: F401  (registers optimum-neuron's own)

    tasks = TasksManager.get_supported_tasks_for_model_type("bert", "neuron", library_name="transformers")
    assert "fill-mask" in tasks


def test_registering_again_changes_nothing():
    before = get_neuron_model_class("gemma4", task="text-generation", mode="inference")
    register()
    assert get_neuron_model_class("gemma4", task="text-generation", mode="inference") is before


def test_a_failed_registration_may_be_tried_again_and_leaves_the_classes_of_others():
    """In a process that has a Gemma 4 of its own, as later transformers do, and asks for a backend that is not there.

    A registration that stopped half way must not look like one that is done.
    """
    code = (
        "import os\n"
        "from transformers import AutoConfig, PretrainedConfig\n"
        "class Theirs(PretrainedConfig):\n    model_type = 'gemma4'\n"
        "AutoConfig.register('gemma4', Theirs)\n"
        "os.environ['OPTIMUM_GEMMA4_BACKEND'] = 'neuron'\n"
        "try:\n    import optimum_gemma4\nexcept RuntimeError:\n    print('refused')\n"
        "os.environ['OPTIMUM_GEMMA4_BACKEND'] = 'simulator'\n"
        "import optimum_gemma4\n"
        "print(type(AutoConfig.for_model('gemma4')).__name__, type(AutoConfig.for_model('gemma4_text')).__name__)\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.stdout.split() == ["refused", "Theirs", "Gemma4TextConfig"], finished.stderr


def test_every_public_name_can_be_imported():
    assert optimum_gemma4.__version__ == "0.1.0"
    for name in optimum_gemma4.__all__:
        assert getattr(optimum_gemma4, name) is not None
        assert name in dir(optimum_gemma4)
    with pytest.raises(AttributeError, match="no attribute 'Gemma5'"):
        optimum_gemma4.Gemma5


def test_tokenizer_and_processor_of_the_published_files_are_found(tiny_checkpoint):
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert text.count("<bos>") == 1
    assert type(AutoProcessor.from_pretrained(tiny_checkpoint)).__name__ == "Gemma4Processor"


@pytest.mark.parametrize(
    ("config", "task"),
    [
        (small_config(), "image-text-to-text"),
        (small_config()["text_config"], "text-generation"),
        ({**small_config(), "vision_config": None}, "text-generation"),
    ],
    ids=["vision", "text", "no vision"],
)
def test_the_task_is_what_the_configuration_says(config, task):
    assert gemma4_task(config) == task


@pytest.mark.parametrize("task", ["text-generation", "image-text-to-text"])
def test_optimum_knows_the_tasks_of_the_multimodal_model(task):
    assert get_neuron_model_class("gemma4", task, "inference").task == task
    assert task in TasksManager.get_supported_tasks_for_model_type("gemma4", "neuron")
