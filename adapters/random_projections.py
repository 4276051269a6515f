"""Random projections from a few dimensions to all weights of a model: Fastfood, and a dense matrix to compare with."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

RADIX = 16  # factors of the Walsh-Hadamard transform: 16 was the fastest on a CPU of 2 to 256
MIN_BLOCK = 4096  # rows of a Fastfood block: smaller blocks cost time
ROWS_AT_ONCE = 2**20  # rows computed at once: the size of the temporary tensors


class Fastfood:
    """P from R^d to R^D: stacked blocks H G Pi H B / c of L rows, each with its own random signs B, permutation Pi and
    Gaussian diagonal G; H is the Walsh-Hadamard transform of size L, the smallest power of two that is at least d
    (Le et al. 2013, section 4; Aghajanyan et al. 2020, section 3).

    c = sqrt(sum(G^2) D) gives each column of P the norm 1. Only the diagonals are stored, never P: 9 bytes per row.
    """

    def __init__(self, inputs: int, outputs: int, seed: int, device: Any):
        import torch

        self.inputs, self.outputs = inputs, outputs
        self.size = max(MIN_BLOCK, 1 << (inputs - 1).bit_length())
        self.blocks_at_once = max(1, ROWS_AT_ONCE // self.size)
        blocks = math.ceil(outputs / self.size)
        generator = torch.Generator().manual_seed(seed)
        signs = 2 * torch.randint(2, (blocks, inputs), generator=generator, dtype=torch.int8) - 1
        normals = torch.randn(blocks, self.size, generator=generator)
        normals *= (outputs * normals.square().sum(1, keepdim=True)).rsqrt()
        orders = torch.stack([torch.randperm(self.size, generator=generator).to(torch.int32) for _ in range(blocks)])
        orders += (
            torch.arange(blocks, dtype=torch.int32)[:, None] % self.blocks_at_once * self.size
        )  # offset within its group
        self.signs, self.normals, self.orders = signs.to(device), normals.to(device), orders.to(device)

    def __call__(self, vector: Tensor) -> Tensor:
        import torch

        parts = [self._blocks(vector, first) for first in range(0, len(self.signs), self.blocks_at_once)]
        return torch.cat(parts)[: self.outputs]

    def _blocks(self, vector: Tensor, first: int) -> Tensor:
        """The rows of one group of blocks, starting with the block `first`."""
        import torch.nn.functional as F

        blocks = slice(first, first + self.blocks_at_once)
        mixed = walsh_hadamard(F.pad(self.signs[blocks] * vector, (0, self.size - self.inputs)))
        ordered = mixed.view(-1).index_select(0, self.orders[blocks].reshape(-1))
        return walsh_hadamard(ordered.view(-1, self.size) * self.normals[blocks]).view(-1)


class DenseProjection:
    """A Gaussian matrix (D, d) whose columns have norm 1 in expectation: the reference for Fastfood."""

    def __init__(self, inputs: int, outputs: int, seed: int, device: Any):
        import torch

        generator = torch.Generator().manual_seed(seed)
        self.matrix = (torch.randn(outputs, inputs, generator=generator) / math.sqrt(outputs)).to(device)

    def __call__(self, vector: Tensor) -> Tensor:
        return self.matrix @ vector


def walsh_hadamard(rows: Tensor) -> Tensor:
    """H x, unnormalised, for each row x of (n, L), L a power of two. H is a Kronecker product of small transforms."""
    import torch

    count, size = rows.shape
    result, done = rows, 1
    while done < size:
        factor = min(RADIX, size // done)
        matrix = torch.as_tensor(hadamard(factor)).to(rows)
        result = result.view(-1, factor) @ matrix if done == 1 else matrix @ result.view(-1, factor, done)
        done *= factor
    return result.view(count, size)


@cache
def hadamard(size: int) -> Any:
    """Sylvester's Hadamard matrix (size, size), as an array: a cached tensor might be a fake one, without values."""
    from scipy.linalg import hadamard

    return hadamard(size).astype("float32")
