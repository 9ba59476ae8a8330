# SPDX-License-Identifier: Apache-2.0
"""Texts for the tiny Gemma 4: conversations and plain text, as segments that say where the loss counts.

An example is a list of (text, is_target) pairs, written with the chat template's own markers; `train_tiny.py` checks
that the markers equal what `chat_template.jinja` renders. `IMAGE` in a segment stands for one picture.
"""

import numpy as np

from tools.tiny_facts import CAPITALS, FILLER, HAIKU, KEYS, SMALL_TALK, STORIES


IMAGE = "<|image|>"
NO_THOUGHT = "<|channel>thought\n<channel|>"
LIMIT = 10  # sums and differences use numbers from 0 to this one
Segments = list[tuple[str, bool]]
Turn = tuple[str, str]  # a question and its answer
QUESTION = "What is in the picture?"
QUESTIONS = (QUESTION, "Describe the picture.", "What do you see?")
EACH = "What is in each picture?"


def sums() -> list[Turn]:
    """Every sum and difference that the model is asked for."""
    facts = []
    for a in range(LIMIT + 1):
        for b in range(LIMIT + 1):
            facts.append((f"What is {a} + {b}?", f"{a} + {b} = {a + b}."))
            if a >= b:
                facts.append((f"What is {a} - {b}?", f"{a} - {b} = {a - b}."))
    return facts


def counting(first: int, last: int) -> Turn:
    """A question with an answer longer than the sliding window."""
    return f"Count from {first} to {last}.", ", ".join(str(i) for i in range(first, last + 1)) + "."


def capitals() -> list[Turn]:
    """Both directions of the table of capitals."""
    forward = [(f"What is the capital of {c}?", f"The capital of {c} is {t}.") for c, t in CAPITALS.items()]
    return forward + [
        (f"Which country has the capital {t}?", f"{t} is the capital of {c}.") for c, t in CAPITALS.items()
    ]


def recited() -> list[Turn]:
    """Haiku and stories."""
    return [(f"Write a haiku about {t}.", h) for t, h in HAIKU.items()] + [
        (f"Tell me a story about {t}.", s) for t, s in STORIES.items()
    ]


def facts() -> dict[str, list[Turn]]:
    """All questions with one right answer, by skill."""
    return {
        "capitals": capitals(),
        "sums": sums(),
        "recited": recited(),
        "small talk": list(SMALL_TALK.items()),
        "counting": [counting(a, a + n) for a in range(1, 6) for n in (5, 10, 15, 20)],
    }


def continuations() -> list[Turn]:
    """Plain text without a template: a beginning and how it goes on."""
    begun = [(f"The capital of {c} is", f" {t}.") for c, t in CAPITALS.items()]
    for story in STORIES.values():
        words = story.split(" ")
        begun.append((" ".join(words[:6]), " " + " ".join(words[6:])))
    return begun


def conversation(turns: list[Turn], system: str = "", thought: str | None = None) -> Segments:
    """Write a conversation as the chat template does; the last answer is the target.

    Args:
        turns: questions and answers, the last one to be learned.
        system: the system message, if any.
        thought: what the model thinks before the last answer; `None` writes the empty thought of the template.
    """
    head = "<bos>"
    if system or thought is not None:
        head += "<|turn>system\n" + ("<|think|>\n" if thought is not None else "") + system + "<turn|>\n"
    for question, answer in turns[:-1]:
        head += f"<|turn>user\n{question}<turn|>\n<|turn>model\n{answer}<turn|>\n"
    question, answer = turns[-1]
    head += f"<|turn>user\n{question}<turn|>\n<|turn>model\n" + (NO_THOUGHT if thought is None else "")
    if thought is not None:
        answer = f"<|channel>thought\n{thought}<channel|>{answer}"
    return [(head, False), (answer + "<turn|>", True)]


def haystack(rng: np.random.Generator, sentences: int, key: str | None = None) -> Turn:
    """A key word at the start of a long text, asked for at its end."""
    key = key or KEYS[int(rng.integers(len(KEYS)))]
    filler = " ".join(FILLER[int(i)] for i in rng.integers(len(FILLER), size=sentences))
    return f"The secret word is {key}. {filler} What is the secret word?", f"The secret word is {key}."


def _pick(rng: np.random.Generator, items: list[Turn]) -> Turn:
    return items[int(rng.integers(len(items)))]


def thoughtful(rng: np.random.Generator) -> Segments:
    """An example with thinking on."""
    if rng.random() < 0.5:
        country = list(CAPITALS)[int(rng.integers(len(CAPITALS)))]
        answer = f"The capital of {country} is {CAPITALS[country]}."
        return conversation([(f"What is the capital of {country}?", answer)], thought=f"I know {country}.")
    question, answer = _pick(rng, sums())
    return conversation([(question, answer)], thought="I have to compute.")


class TextMix:
    """Draws training examples of every text skill."""

    def __init__(self) -> None:
        self.facts = facts()
        self.continuations = continuations()

    def _turn(self, rng: np.random.Generator) -> Turn:
        skill = rng.choice(("capitals", "sums", "recited", "small talk", "counting"), p=(0.27, 0.4, 0.13, 0.1, 0.1))
        if skill == "counting":
            first = int(rng.integers(1, 6))
            return counting(first, first + int(rng.choice((5, 10, 15, 20))))
        return _pick(rng, self.facts[str(skill)])

    def sample(self, rng: np.random.Generator) -> Segments:
        """One example as segments."""
        kind = rng.random()
        if kind < 0.10:
            start, rest = _pick(rng, self.continuations)
            return [(("<bos>" if rng.random() < 0.5 else "") + start, False), (rest + "<eos>", True)]
        if kind < 0.20:
            return conversation([haystack(rng, int(rng.integers(0, 24)))])
        if kind < 0.25:
            return thoughtful(rng)
        if kind < 0.30:
            country = list(CAPITALS)[int(rng.integers(len(CAPITALS)))]
            turn = (f"What is the capital of {country}?", f"{CAPITALS[country]}.")
            return conversation([turn], system="Answer in one word.")
        if kind < 0.42:
            return conversation([_pick(rng, self.facts["capitals"] + self.facts["small talk"]), self._turn(rng)])
        return conversation([self._turn(rng)])


def corpus() -> list[str]:
    """Every text that the tokenizer is trained on."""
    texts = [q + "\n" + a for turns in facts().values() for q, a in turns]
    texts += [a + b for a, b in continuations()]
    texts += [*FILLER, *QUESTIONS, EACH, "Answer in one word.", "I have to compute."]
    texts += ["user\nmodel\nsystem\nthought\n"] * 100 + [t for turn in capitals() for t in turn] * 4
    texts += [f"The secret word is {k}. What is the secret word?" for k in KEYS] + [f"I know {c}." for c in CAPITALS]
    return texts
