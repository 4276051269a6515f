"""Distances and scores against torchmetrics, closed forms and asymmetric cases."""

import numpy as np
import pytest
import torch

from tasks.bundled.bundled_bases import SCORER
from tasks.diffusion.data.splits import draw
from tasks.diffusion.evaluation.clip_scorer import ClipScorer
from tasks.diffusion.evaluation.intervals import mean_figure
from tasks.diffusion.evaluation.metrics.cmmd import mean_discrepancy
from tasks.diffusion.evaluation.metrics.fid import frechet_distance
from tasks.diffusion.evaluation.metrics.fid_infinity import extrapolated_frechet_distance
from tasks.diffusion.evaluation.metrics.kid import kernel_contributions, kernel_distance, precomputed
from tasks.diffusion.worlds.creatures import Creatures
from tests.tasks.diffusion.evaluation.jackknife import jackknife


@pytest.fixture
def sets():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(60, 24, generator=generator)
    return first, 1.5 * torch.randn(50, 24, generator=generator) + 0.3


@pytest.mark.parametrize(("n", "m", "d"), [(60, 50, 24), (20, 30, 64)])
def test_frechet_distance_is_torchmetrics(n, m, d):
    from torchmetrics.image.fid import FrechetInceptionDistance

    generator = torch.Generator().manual_seed(1)
    first = torch.randn(n, d, generator=generator, dtype=torch.double)
    second = 2 * torch.randn(m, d, generator=generator, dtype=torch.double) + 1
    metric = FrechetInceptionDistance(feature=precomputed(d)).set_dtype(torch.float64)
    metric.update(second, real=True)
    metric.update(first, real=False)
    assert frechet_distance(first, second) == pytest.approx(metric.compute().item(), rel=1e-4)


def test_frechet_distance_of_a_shift_is_its_square(sets):
    first, _ = sets
    assert frechet_distance(first + 2, first) == pytest.approx(4 * first.shape[1], rel=1e-6)


@pytest.mark.parametrize(("d", "scale", "shift"), [(16, 1.5, 0.0), (64, 1.5, 0.2), (64, 1.0, 0.0)])
def test_fid_at_infinity_has_no_bias_where_fid_has(d, scale, shift):
    """Two Gaussians with spectrum 1/i: the distance is trace * (scale - 1)^2 + d * shift^2 (Dowson & Landau 1982)."""
    spectrum = 1 / torch.arange(1, d + 1, dtype=torch.double)
    exact = (scale - 1) ** 2 * spectrum.sum().item() + d * shift**2
    finite, infinite = [], []
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        first, second = torch.randn(2, 400, d, generator=generator, dtype=torch.double) * spectrum.sqrt()
        second = scale * second + shift
        finite.append(frechet_distance(first, second))
        infinite.append(extrapolated_frechet_distance(first, second))
    error = np.std(infinite) / np.sqrt(30)
    assert np.mean(infinite) == pytest.approx(exact, abs=3 * error)
    assert np.mean(finite) - exact > 5 * error


def test_fid_at_infinity_of_few_pictures_in_many_features_keeps_a_part_of_the_bias():
    generator = torch.Generator().manual_seed(0)
    spectrum = 1 / torch.arange(1, 401, dtype=torch.double)
    first, second = torch.randn(2, 200, 400, generator=generator, dtype=torch.double) * spectrum.sqrt()
    assert 0 < extrapolated_frechet_distance(first, second) < 0.6 * frechet_distance(first, second)


def test_kernel_distance_is_the_unbiased_estimate():
    """Binkowski et al. 2018, eq. 4, written out over pairs; both sets of one size."""
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(12, 5, generator=generator), torch.randn(12, 5, generator=generator) + 1

    def k(a, b):
        return (a @ b / 5 + 1) ** 3

    n = len(x)
    within = sum(k(s[i], s[j]) for s in (x, y) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    across = sum(k(x[i], y[j]) for i in range(n) for j in range(n)) / n**2
    assert kernel_distance(x, y) == pytest.approx(1000 * float(within - 2 * across), rel=1e-4)


def test_distances_grow_with_difference_and_vanish_without(sets):
    first, second = sets
    for distance in (kernel_distance, frechet_distance, mean_discrepancy):
        assert distance(second, first) > abs(distance(first, first))


def test_the_jackknife_has_its_nominal_coverage():
    covered = 0
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        first, second = torch.randn(80, 3, generator=generator), torch.randn(80, 3, generator=generator)
        low, high = jackknife(lambda a, b: (a.mean() - b.mean()).item(), first, second)
        covered += low <= 0 <= high
    assert 50 <= covered <= 60  # 57 expected


def test_contributions_to_the_kernel_distance_have_its_mean_and_its_paired_noise():
    """Two models draw the same prompts: the noise of their KIDs' difference over fresh sets of prompts."""
    generator = torch.Generator().manual_seed(4)
    real = torch.randn(200, 4, generator=generator)
    differences, errors = [], []
    for _ in range(200):
        prompts = torch.randn(60, 4, generator=generator)
        sets = [prompts + shift + 0.3 * torch.randn(60, 4, generator=generator) for shift in (0.3, 0.4)]
        first, second = (kernel_contributions(pictures, real) for pictures in sets)
        differences.append((first - second).mean())
        errors.append((first - second).std(ddof=1) / np.sqrt(60))
        exact = kernel_distance(sets[0], real[:60])
        assert kernel_contributions(sets[0], real[:60]).mean() == pytest.approx(exact, rel=1e-3, abs=1e-2)
    assert np.mean(errors) == pytest.approx(np.std(differences), rel=0.15)


def test_the_interval_of_pictures_of_few_prompts_has_its_nominal_coverage():
    """4 prompts of 10 pictures: the ordinary interval covers the mean of all prompts in .5 of the cases, not .95."""
    rng, prompts = np.random.default_rng(0), [f"prompt {i // 10}" for i in range(40)]
    covered = {"clustered": 0, "ordinary": 0}
    for _ in range(1000):
        values = np.repeat(rng.normal(size=4), 10) + rng.normal(size=40)
        for name, known in (("clustered", prompts), ("ordinary", None)):
            figure = mean_figure(values, "u", "simulated", known)
            assert figure.low is not None
            assert figure.high is not None
            covered[name] += figure.low <= 0 <= figure.high
    assert covered["clustered"] / 1000 == pytest.approx(0.95, abs=0.021)
    assert covered["ordinary"] / 1000 < 0.75


def test_different_prompts_are_not_clustered_and_one_prompt_is_no_cluster():
    values = np.array([1.0, 2.0, 4.0, 5.0])
    ordinary = mean_figure(values, "u", "by hand")
    assert mean_figure(values, "u", "by hand", list("abcd")) == ordinary
    assert mean_figure(values, "u", "by hand", list("aaaa")) == ordinary


def test_intervals_of_shares_stay_between_0_and_1():
    figure = mean_figure(np.array([1.0, 1.0, 1.0, 0.5]), "share", "by hand")
    assert figure.high == 1.0
    # deviation 0.25, standard error 0.125, t(3) at 97.5 % is 3.1824
    assert figure.low == pytest.approx(0.875 - 3.1824 * 0.125, abs=1e-3)


def test_mean_figure_is_the_t_interval():
    figure = mean_figure(np.array([1.0, 2.0, 4.0, 5.0]), "u", "by hand")
    assert figure.value == 3.0
    # deviation 1.8257, standard error 0.9129, t(3) at 97.5 % is 3.1824
    assert figure.low == pytest.approx(3 - 3.1824 * 0.91287, abs=1e-3)
    assert figure.n == 4


def test_clip_score_is_torchmetrics_and_prefers_the_right_caption():
    from torchmetrics.multimodal.clip_score import CLIPScore

    scorer = ClipScorer(str(SCORER), "bundled", torch.device("cpu"))
    pictures = draw(Creatures(), 12, 9, held_out=True, full_caption=True)
    ours = scorer.scores(pictures.pixels, pictures.captions)

    class Pooled:
        """CLIPScore expects the pooled tensors that transformers 4 returned."""

        def __init__(self, model):
            self.model, self.config, self.dtype = model, model.config, model.dtype

        def to(self, *arguments, **named):
            return self

        def get_image_features(self, pixels):
            return self.model.get_image_features(pixels).pooler_output

        def get_text_features(self, *arguments):
            return self.model.get_text_features(*arguments).pooler_output

    metric = CLIPScore(model_name_or_path=lambda: (Pooled(scorer.model), scorer.processor))
    metric.model = Pooled(scorer.model)
    metric.update(list(pictures.pixels), pictures.captions)
    assert ours.mean() == pytest.approx(metric.compute().item(), rel=1e-3)
    wrong = scorer.scores(pictures.pixels, pictures.captions[1:] + pictures.captions[:1])
    assert (ours > wrong).mean() > 0.8
