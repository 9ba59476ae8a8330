# SPDX-License-Identifier: Apache-2.0
"""What `make demo` shows: the tiny checkpoint, text and vision, exported by `optimum-cli`, loaded in a new process.

It answers questions and says what is in a picture that is drawn for it, and that it has not seen before; the picture
is written beside the artifact.

python tools/demo.py [--out DIR] [--picture SEED]
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from tiny_pictures import draw


ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "examples" / "gemma4-tiny"
QUESTIONS = (
    "What is the capital of France?",
    "What is 2 + 2?",
    "Write a haiku about the sea.",
    "Who are you?",
    "Count from 1 to 16.",
)
QUESTION_ABOUT_A_PICTURE = "What is in the picture?"
PICTURE = 1_000_001  # training draws no picture of a seed above 999,999


def export(out: Path) -> None:
    """Run the command as a user would, and show it."""
    command = [
        *("optimum-cli", "export", "neuron", "--model", str(CHECKPOINT), "--instance_type", "trn2"),
        *("--batch_size", "1", "--sequence_length", "256", "--tensor_parallel_size", "2"),
        str(out),
    ]
    sys.stdout.write("$ " + " ".join(command) + "\n")
    sys.stdout.flush()
    subprocess.run([str(Path(sys.executable).parent / command[0]), *command[1:]], check=True)


def answer(artifact: Path, seed: int) -> None:
    """Load the artifact and ask it, without and with a picture."""
    from transformers import AutoProcessor

    from optimum_gemma4 import NeuronModelForImageTextToText

    processor = AutoProcessor.from_pretrained(artifact)
    model = NeuronModelForImageTextToText.from_pretrained(artifact)

    def say(*parts: dict) -> str:
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": list(parts)}],
            add_generation_prompt=True,
            tokenize=True,
            return_tensors="pt",
            return_dict=True,
        )
        sequences = model.generate(**inputs, max_new_tokens=100, do_sample=False)
        return processor.decode(sequences[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    for question in QUESTIONS:
        sys.stdout.write(f"\n> {question}\n{say({'type': 'text', 'text': question})}\n")
    picture, description = draw(seed)
    file = artifact.with_name(f"{artifact.name}-picture.png")
    picture.save(file)
    reply = say({"type": "image", "image": str(file)}, {"type": "text", "text": QUESTION_ABOUT_A_PICTURE})
    sys.stdout.write(f"\n> [{file}] {QUESTION_ABOUT_A_PICTURE}\n{reply}\n(drawn: {description})\n")


def main() -> None:
    """Export, then start a new process that loads what was exported."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "gemma4-tiny", help="folder of the artifact")
    parser.add_argument("--picture", type=int, default=PICTURE, help="seed of the picture that is shown")
    parser.add_argument("--ask", action="store_true", help="only load the artifact and ask")
    arguments = parser.parse_args()
    if arguments.ask:
        answer(arguments.out, arguments.picture)
        return
    if (arguments.out / "neuron_config.json").is_file():
        shutil.rmtree(arguments.out)  # the artifact of an earlier run, and nothing else
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    export(arguments.out)
    again = [sys.executable, __file__, "--ask", "--out", str(arguments.out), "--picture", str(arguments.picture)]
    subprocess.run(again, check=True)


if __name__ == "__main__":
    main()
