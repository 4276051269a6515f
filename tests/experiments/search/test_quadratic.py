"""A quadratic whose intrinsic dimension is known: a random subspace of dimension d recovers d / D of the gain."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from adapters import Subspace
from adapters.backbone import Backbone
from experiments.config import RunConfig, Train
from experiments.search.intrinsic_dimension import IntrinsicSettings, intrinsic_dimension
from tasks.base import Evaluation, Metric, PreparedTask, Task, declare
from tests.experiments.conftest import RecordingLauncher

WEIGHTS = 128  # D
DISTANCE = Metric("distance", "lower", "squared", "half the squared distance to the minimum")


class Weights(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(WEIGHTS))

    def forward(self):
        return self.weight.clone()


class Vector(Backbone):
    """A model that is its D weights."""

    library = "transformers"

    def __init__(self):
        self.model = Weights()

    def all_projections(self):
        return []

    def blocks(self):
        return []

    def attention_layers(self):
        return []

    @property
    def width(self):
        return WEIGHTS

    @property
    def positions(self):
        return None

    def example_input(self, generator=None):
        return {}


@dataclass(frozen=True)
class Quadratic(Task, name="quadratic"):
    """Reach a random minimum, equally far in every direction."""

    metrics = declare(DISTANCE)
    primary_metric = "distance"

    def recommended(self, adapter):
        return {"learning_rate": 0.05}

    def prepare(self, device):
        return PreparedQuadratic()


del Task._registry["quadratic"]  # for this file's tests alone


class PreparedQuadratic(PreparedTask):
    def __init__(self):
        self.backbone, self.facts = Vector(), {}
        self.minimum = torch.randn(WEIGHTS, generator=torch.Generator().manual_seed(0))

    def batches(self, seed, start, size):
        while True:
            yield None

    def loss(self, batch):
        return 0.5 * (self.backbone.model() - self.minimum).square().sum()

    def validation_loss(self):
        with torch.no_grad():
            return float(self.loss(None))

    def evaluate(self, output=None):
        value = self.validation_loss()
        return Evaluation({"distance": DISTANCE.figure(value, 1, "exact")}, [{"item": 0, "distance": value}])

    @property
    def evaluation_key(self):
        return "quadratic"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(Task._registry, "quadratic", Quadratic)
        train = Train(steps=400, learning_rate=0.003, batch_size=1, device="cpu", lr_scheduler="cosine")
        settings = IntrinsicSettings(
            seeds=(0, 1, 2), variants=("DID",), smallest=8, factor=4.0, resolution=1.05, other_methods=()
        )
        config = RunConfig(Subspace(projection="dense"), Quadratic(), train)
        return intrinsic_dimension(config, settings, tmp_path_factory.mktemp("runs"), RecordingLauncher())


def test_a_random_subspace_recovers_d_of_D_parts_of_the_gain(outcome):  # noqa: N802
    """In expectation over subspaces; the share of one subspace has the deviation of a beta distribution.

    Without d = D: a square Gaussian matrix is close to singular, so that training does not come to its end.
    """
    (goal, *_), (curve,) = outcome["seeds"], outcome["curves"]
    untuned, full = goal["goal"]["base"], goal["goal"]["value"]
    assert full == pytest.approx(0, abs=1e-3 * untuned)
    points = [point for seed in curve["seeds"] for point in seed["points"] if point["size"] < WEIGHTS]
    for point in points:
        d = point["size"]
        share, deviation = 1 - point["value"] / untuned, (2 * d * (WEIGHTS - d) / (WEIGHTS**2 * (WEIGHTS + 2))) ** 0.5
        assert share == pytest.approx(d / WEIGHTS, abs=3.5 * deviation + 0.01)
    assert len({point["size"] for point in points}) > 4


def test_d90_is_nine_tenths_of_the_weights(outcome):
    (curve,) = outcome["curves"]
    assert curve["value"] == pytest.approx(0.9 * WEIGHTS, rel=0.05)
    assert curve["low"] < 0.9 * WEIGHTS * 1.03
    assert curve["high"] > 0.9 * WEIGHTS * 0.97
