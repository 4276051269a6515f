"""Random pairs of a key and a value, both sequences of tokens: facts whose information is known exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.errors import TaskError

Pair = tuple[list[int], list[int]]  # token ids of key and value


@dataclass(frozen=True)
class RandomFacts:
    """`pairs` different keys of `key_tokens` random tokens; each of a value's tokens is one of `symbols`, all equally
    likely. The first pairs of a larger number are those of a smaller one.
    """

    pairs: int
    key_tokens: int
    value_tokens: int
    symbols: int
    seed: int

    @property
    def bits(self) -> float:
        """Entropy of one value."""
        return self.value_tokens * math.log2(self.symbols)

    @property
    def row_length(self) -> int:
        """Tokens of a pair after a start token."""
        return 1 + self.key_tokens + self.value_tokens

    def draw(self, vocabulary: Sequence[int]) -> list[Pair]:
        """The pairs, of tokens of the vocabulary. Raises TaskError if it is too small."""
        if self.symbols > len(vocabulary):
            raise TaskError(
                f"--task.symbols {self.symbols} is more than the {len(vocabulary)} ordinary tokens of this base: "
                "choose fewer symbols"
            )
        if 2 * self.pairs > len(vocabulary) ** self.key_tokens:
            raise TaskError(
                f"--task.pairs {self.pairs} needs more keys of {self.key_tokens} tokens than {len(vocabulary)} tokens "
                "give: choose a larger --task.key-tokens, or fewer pairs"
            )
        alphabet, keys, values = np.random.default_rng(self.seed).spawn(3)
        ordinary = np.asarray(vocabulary)
        symbols = alphabet.choice(ordinary, self.symbols, replace=False)
        chosen: dict[tuple[int, ...], None] = {}
        while len(chosen) < self.pairs:
            chosen[tuple(ordinary[keys.integers(len(ordinary), size=self.key_tokens)].tolist())] = None
        drawn = symbols[values.integers(self.symbols, size=(self.pairs, self.value_tokens))].tolist()
        return [(list(key), value) for key, value in zip(chosen, drawn, strict=True)]
