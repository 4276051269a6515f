"""R@1 of captions and pictures, counted by hand."""

import torch

from tasks.bundled.recipes.contrastive import recall_at_1

TEXT = torch.eye(4)


def test_a_picture_is_a_hit_if_its_own_caption_scores_highest():
    pictures = torch.tensor([[9.0, 1, 0, 0], [5, 1, 0, 0], [0, 0, 2, 1], [0, 0, 2, 1]])  # the second and fourth miss
    assert recall_at_1(pictures, TEXT, ["a", "b", "c", "d"], candidates=4) == 0.5
    assert recall_at_1(TEXT, pictures, ["a", "b", "c", "d"], candidates=4) == 0.75  # the last one finds the third


def test_equal_captions_count_as_their_own():
    pictures = torch.tensor([[9.0, 1, 0, 0], [5, 1, 0, 0], [0, 0, 2, 1], [0, 0, 2, 1]])
    assert recall_at_1(pictures, TEXT, ["a", "a", "c", "d"], candidates=4) == 0.75


def test_candidates_are_parts_of_all_captions():
    generator = torch.Generator().manual_seed(0)
    pictures, text = torch.randn(400, 8, generator=generator), torch.randn(400, 8, generator=generator)
    captions = [str(i) for i in range(400)]
    assert abs(recall_at_1(pictures, text, captions, candidates=2) - 0.5) < 0.1  # by chance
    assert abs(recall_at_1(pictures, text, captions, candidates=200) - 0.005) < 0.02
