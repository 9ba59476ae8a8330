# SPDX-License-Identifier: Apache-2.0
"""What `make demo` shows: a real export of the tiny checkpoint by `optimum-cli`, loaded in a new process, answering.

python tools/demo.py [--out DIR]
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path


ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "examples" / "gemma4-tiny"
QUESTIONS = (
    "What is the capital of France?",
    "What is 2 + 2?",
    "Write a haiku about the sea.",
    "Who are you?",
    "Count from 1 to 16.",
)


def export(out: Path) -> None:
    """Run the command as a user would, and show it."""
    command = [
        *("optimum-cli", "export", "neuron", "--model", str(CHECKPOINT), "--task", "text-generation"),
        *("--instance_type", "trn2", "--batch_size", "1", "--sequence_length", "256", "--tensor_parallel_size", "2"),
        str(out),
    ]
    sys.stdout.write("$ " + " ".join(command) + "\n")
    sys.stdout.flush()
    subprocess.run([str(Path(sys.executable).parent / command[0]), *command[1:]], check=True)


def answer(artifact: Path) -> None:
    """Load the artifact and ask it."""
    from transformers import AutoTokenizer

    from optimum_gemma4 import NeuronModelForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(artifact)
    model = NeuronModelForCausalLM.from_pretrained(artifact)
    for question in QUESTIONS:
        messages = [{"role": "user", "content": question}]
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        sequences = model.generate(**inputs, max_new_tokens=100, do_sample=False)
        reply = tokenizer.decode(sequences[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        sys.stdout.write(f"\n> {question}\n{reply}\n")


def main() -> None:
    """Export, then start a new process that loads what was exported."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "gemma4-tiny", help="folder of the artifact")
    parser.add_argument("--ask", action="store_true", help="only load the artifact and ask")
    arguments = parser.parse_args()
    if arguments.ask:
        answer(arguments.out)
        return
    if (arguments.out / "neuron_config.json").is_file():
        shutil.rmtree(arguments.out)  # the artifact of an earlier run, and nothing else
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    export(arguments.out)
    subprocess.run([sys.executable, __file__, "--ask", "--out", str(arguments.out)], check=True)


if __name__ == "__main__":
    main()
