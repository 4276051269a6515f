"""Pictures that show the same: equal, saved again as JPEG, or resized. They never lie in two splits."""

from __future__ import annotations

import imagehash
import numpy as np
import torch
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

HASH_SIZE = 16  # differences of brightness in each direction: 256 bits
MOST_BITS = 16
COLOUR_GRID = 4  # cells in each direction
MOST_COLOUR = 8.0  # of 255
BLOCK = 2048  # pictures that are compared with all others at once


def near_duplicate_groups(pixels: Tensor) -> list[list[int]]:
    """Groups of pictures uint8 (n, 3, height, width), each in order, by their first picture; most have one picture.

    Near-duplicates have difference hashes (Krawetz 2013) at most MOST_BITS of 256 apart and mean colours, in each cell
    of a 4 x 4 grid, at most MOST_COLOUR apart. A hash alone merges hearts of all colours; equal hashes alone miss a
    fourth of the re-encoded pictures. Different animals of OpenMoji are at least 43 bits apart; saved again as JPEG
    (quality 75) or resized by 2 %, each is at most 8 bits and 8 levels from itself. A picture of a near-duplicate's
    near-duplicate is in the same group.
    """
    count = len(pixels)
    if not count:
        return []
    first, second = _near_pairs(_hashes(pixels), _colours(pixels))
    graph = coo_array((np.ones(len(first), bool), (first, second)), (count, count))
    labels = connected_components(graph, directed=False)[1]
    groups: dict[int, list[int]] = {}
    for index, label in enumerate(labels.tolist()):
        groups.setdefault(label, []).append(index)
    return list(groups.values())


def _hashes(pixels: Tensor) -> Tensor:
    """-1 or 1 for each bit, (n, 256)."""
    pictures = (Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in pixels)
    bits = np.stack([imagehash.dhash(picture, HASH_SIZE).hash.ravel() for picture in pictures])
    return torch.from_numpy(np.where(bits, np.float32(1), np.float32(-1)))


def _colours(pixels: Tensor) -> Tensor:
    """Mean colours of the grid's cells, (n, 48)."""
    return torch.stack([adaptive_avg_pool2d(picture.float(), COLOUR_GRID).flatten() for picture in pixels])


def _near_pairs(hashes: Tensor, colours: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The indices of both pictures of each near-duplicate pair, in both orders, each picture with itself included."""
    bits, pairs = hashes.shape[1], []
    for start in range(0, len(hashes), BLOCK):
        distances = (bits - hashes[start : start + BLOCK] @ hashes.T) / 2
        near = (distances <= MOST_BITS).nonzero() + torch.tensor([start, 0])
        apart = (colours[near[:, 0]] - colours[near[:, 1]]).abs().amax(dim=1)
        pairs.append(near[apart <= MOST_COLOUR])
    first, second = torch.cat(pairs).numpy().T
    return first, second
