"""Peak memory and FLOPs of a run, predicted for any device with fake tensors: nothing is allocated.

The adapter is attached to the task's model on the meta device; every parameter and buffer then becomes an empty fake
tensor. A step equal to those of the training loop runs under a `StepTrace`, then the calls that the evaluation makes.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import get_gradient_edge

from adapters.base import Attachment
from experiments.config import ResolvedTrain, RunConfig
from experiments.measure.file_sizes import adapter_files
from experiments.measure.flops import adamw_flops
from experiments.measure.memory import frozen_weights
from experiments.measure.memory.empty_model import count, make_empty
from experiments.measure.memory.phases import Assumptions, Phase, Prediction, autocast
from experiments.measure.memory.planned_optimizer import planned_optimizer
from experiments.measure.memory.prime_batch import unused_prime
from experiments.measure.memory.trace import StepTrace, Timeline
from experiments.precision import stored_in
from experiments.training.accelerator import LossModule
from experiments.training.memory_tracker import ACTIVATIONS, GRADIENTS, OPTIMIZER, TEMPORARIES
from experiments.training.optimizer import average_of
from tasks.base import EvaluationCall, MetaModel, When

CPU_DEVICE = torch.device("cpu")
TRAINING = "training step"
SUFFIXES = {"set-up": ", before training", "training": ", between steps", "evaluation": ""}


def predict(
    config: RunConfig, assumptions: Assumptions | None = None, say: Callable[[str], object] = lambda text: None
) -> Prediction:
    """Predict a resolved configuration's peaks: training, and evaluation if the task describes it.

    Trained weights are in fp32, as in the loop; the autocast dtype is `config.train.mixed_precision`. `say` is called
    with the name of each part before it is predicted. Raises AdapterError or TaskError if the run itself would.
    """
    with existing_objects_uncollected():
        return _Predictor(config, assumptions or Assumptions(), say).whole()


def predict_training(config: RunConfig, assumptions: Assumptions | None = None) -> Phase:
    """The training step alone."""
    with existing_objects_uncollected():
        return _Predictor(config, assumptions or Assumptions()).training_alone()


def predict_gradients(config: RunConfig, assumptions: Assumptions) -> tuple[Timeline, int]:
    """A step's forward and backward passes alone, traced at a prime batch size, which is returned too; sizes are exact.

    The optimizer's moments, the moving average and the buckets are left out.
    """
    with existing_objects_uncollected():
        return _Predictor(config, assumptions).gradients_alone()


@contextmanager
def existing_objects_uncollected() -> Iterator[None]:
    """A context in which the garbage collector skips the objects that exist now, so that collecting is fast."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class _Predictor:
    """One configuration on the meta device."""

    def __init__(self, config: RunConfig, assumptions: Assumptions, say: Callable[[str], object] = lambda text: None):
        self.config, self.assumptions, self.say = config, assumptions, say
        self.settings = ResolvedTrain.of_steps(config.train, 1)
        say(f"attaching {config.adapter.label} to {config.task.name} without weights")
        self.meta: MetaModel = config.task.meta_model()
        self.model = self.meta.backbone.model
        with self.meta.without_values():
            self.meta.reserve_positions(config.adapter.positions_taken)
            self.attachment: Attachment = config.adapter.attach(self.meta.backbone)
        self.owned = self.attachment.parameters()
        self.trainable, self.total = sum(p.numel() for p in self.owned.values()), count(self.model)
        precision = stored_in(config.task)
        frozen_weights.store(self.model, precision, self.owned.values())
        self.others: dict[str, nn.Module] = {**self.meta.frozen, **self.meta.evaluation_models}
        for name, part in self.others.items():
            frozen_weights.store(part, precision, part=name)

    def whole(self) -> Prediction:
        frozen = {name: frozen_weights.stored_bytes(part) for name, part in self.meta.frozen.items()}
        with self.fake():
            files = adapter_files(self.config, self.attachment)
            self.make_empty()
            training = self.training()
            phases = [training, *self.evaluation(training)]
        meta, sizes = self.meta, (self.trainable, self.total, files)
        return Prediction(tuple(phases), frozen, *sizes, meta.facts, meta.notes, meta.fragmentation)

    def training_alone(self) -> Phase:
        with self.fake():
            self.make_empty()
            return self.training()

    def gradients_alone(self) -> tuple[Timeline, int]:
        self.others = dict(self.meta.frozen)
        traced = unused_prime(self.meta)
        with self.fake():
            self.make_empty()
            with self.stepping(traced) as (tracker, loss, owned, _):

                def run() -> None:
                    self.gradients(loss, traced)
                    for parameter in owned:
                        parameter.grad = None

                return tracker.timeline(self.settled(tracker, run)), traced

    @contextmanager
    def fake(self) -> Iterator[None]:
        """A context of fake tensors; the attachment may still hold tensors on the meta device."""
        with FakeTensorMode(allow_non_fake_inputs=True), self.meta.without_values():
            yield

    def make_empty(self) -> None:
        for module in (self.model, *self.others.values()):
            make_empty(module)

    def training(self) -> Phase:
        """A step, traced at a prime batch size if that gives the steps of all batches."""
        self.say(f"predicting: {TRAINING}")
        batch, traced = self.settings.batch_size, unused_prime(self.meta) if self.meta.scales_with_batch else None
        flops, update = [], []
        with self.stepping(traced) as (tracker, loss, owned, optimizer):
            average = self.persistent_state(tracker, owned)
            start_optimizer(optimizer, owned)

            def run() -> None:
                before, fixed = tracker.flops, tracker.fixed_flops
                self.gradients(loss, traced or batch)
                update.append(len(tracker.events))
                self.update(optimizer, owned, average)
                grown = (tracker.flops - before) - (tracker.fixed_flops - fixed)
                flops.append(grown * batch // (traced or batch) + tracker.fixed_flops - fixed)

            start = self.settled(tracker, run)
            exact = tracker.timeline(start)
        step_flops = flops[-1] * self.settings.gradient_accumulation_steps // self.repeats + adamw_flops(self.trainable)
        if traced is None:
            return Phase(TRAINING, exact, step_flops, update=update[-1])
        timeline = exact.at_batch(batch, traced, self.assumptions.rules.granularity)
        return Phase(TRAINING, timeline, step_flops, update=update[-1], traced=traced, exact=exact)

    def settled(self, tracker: StepTrace, run: Callable[[], None]) -> int:
        """Run a step; returns the index of its first event.

        A method may leave a cache, which exists at the start of all steps but the first: then a second step is run, and
        the index is that of its first event.
        """
        start = len(tracker.events)
        run()
        gc.collect()
        if tracker.has(ACTIVATIONS):
            start = len(tracker.events)
            run()
            gc.collect()
        return start

    @contextmanager
    def stepping(self, traced: int | None = None) -> Iterator[tuple[StepTrace, nn.Module, list[nn.Parameter], Any]]:
        """A context in which a step is tracked: the tracker, the loss, what trains, and the optimizer.

        With `traced`, a prime batch size, sizes are not rounded.
        """
        loss = LossModule(self.model, self.meta.loss).train()
        owned = [parameter for parameter in loss.parameters() if parameter.requires_grad]
        optimizer = planned_optimizer(self.settings, owned, self.assumptions.rules.foreach)
        self.meta.backbone.set_gradient_checkpointing(self.settings.gradient_checkpointing)
        tracker = StepTrace(1 if traced else self.assumptions.rules.granularity, traced)
        tracker.watch(loss, optimizer)
        tracker.add_weights(self.meta.frozen.values())
        gc.collect()  # checkpointing leaves reference cycles, which Python collects at arbitrary moments
        with self.assumptions.imitated(tracker):
            yield tracker, loss, owned, optimizer
        tracker.unwatch()
        self.meta.backbone.set_gradient_checkpointing(False)

    def persistent_state(self, tracker: StepTrace, owned: list[nn.Parameter]) -> Any:
        """Create what lasts across steps besides weights and moments: the moving average (returned) and the gradient
        buckets of data-parallel training."""
        average = average_of(self.settings, owned)
        tracker.assign([] if average is None else average.shadow_params, OPTIMIZER)
        self.buckets = [torch.empty_like(p) for p in owned] if self.settings.num_processes > 1 else []
        tracker.assign(self.buckets, GRADIENTS)
        return average

    @property
    def repeats(self) -> int:
        """Micro-batches to trace: two are enough, the gradients of the first stay while the second runs."""
        return min(2, self.settings.gradient_accumulation_steps)

    def gradients(self, loss: nn.Module, batch: int) -> None:
        """Forward and backward passes, as in `experiments.training.loop.Trainer`."""
        for _ in range(self.repeats):
            with autocast(self.settings.mixed_precision):
                value = loss(self.meta.batch(batch, CPU_DEVICE))
            # by its gradient edge: backward() on the tensor would suspend the device rules, under which blocks
            # have to be recomputed
            torch.autograd.backward(get_gradient_edge(value), torch.ones_like(value))
            del value  # its graph holds the inputs of checkpointed blocks

    def update(self, optimizer: Any, owned: list[nn.Parameter], average: Any) -> None:
        """What follows in that loop."""
        foreach = self.assumptions.rules.foreach
        torch.nn.utils.clip_grad_norm_(owned, self.settings.max_grad_norm, foreach=foreach)
        optimizer.step()
        optimizer.zero_grad()
        if average is not None:
            average.step(owned)

    def evaluation(self, training: Phase) -> list[Phase]:
        """Everything besides training steps: in the set-up, between two steps, and in the evaluation of the tuned
        model, merged if the method can be and without the optimizer.
        """
        calls = self.meta.evaluation(CPU_DEVICE)
        self.model.eval()
        everything = self.tracker(*self.others.values())
        before = [self.call(everything, call, "set-up") for call in calls if "set-up" in call.when]
        return [*before, *self.between_steps(calls, training), *self.of_tuned_model(calls)]

    def between_steps(self, calls: Sequence[EvaluationCall], training: Phase) -> Iterator[Phase]:
        """Calls in training, beside what is alive between two steps: with --train.evaluate-every an evaluation's too.

        They are predicted at the shapes of a whole evaluation, whose largest batch a share of it may not fill.
        """
        timeline, settings = training.timeline, self.settings
        for call in calls:
            in_curve = settings.evaluate_every is not None and "evaluation" in call.when
            if "training" in call.when or in_curve:
                tracker = self.tracker()
                read_again = [self.others[name] for name in call.models if name not in self.meta.frozen]
                phase = self.call(tracker, call, "training", read_again)
                timeline = timeline.then(phase.timeline)
                yield replace(phase, timeline=timeline)

    def of_tuned_model(self, calls: Sequence[EvaluationCall]) -> Iterator[Phase]:
        tracker = self.tracker(*self.others.values())
        if calls and self.config.adapter.mergeable and stored_in(self.config.task) == "fp32":
            with self.assumptions.imitated(tracker):
                self.attachment.merge()
            tracker.keep(TEMPORARIES)  # copies of the weights before the merge
        for call in calls:
            if "evaluation" in call.when:
                yield self.call(tracker, call, "evaluation")

    def tracker(self, *others: nn.Module) -> StepTrace:
        """A tracker of calls without gradients, with the weights of the model and `others`."""
        tracker = StepTrace(self.assumptions.rules.granularity)
        tracker.add_weights([self.model, *others])
        return tracker

    def call(self, tracker: StepTrace, call: EvaluationCall, when: When, read_again: Sequence[nn.Module] = ()) -> Phase:
        """Make a call; its timeline starts with the models that are read again for it."""
        name = f"{call.name}{SUFFIXES[when]}"
        self.say(f"predicting: {name}")
        gc.collect()
        start, flops = len(tracker.events), tracker.flops
        tracker.add_weights(read_again)
        with torch.no_grad(), self.assumptions.imitated(tracker), autocast(self.settings.mixed_precision):
            call.run()
        count = call.count * (call.seeds if when == "evaluation" else 1)
        return Phase(name, tracker.timeline(start), tracker.flops - flops, count, when)


def start_optimizer(optimizer: Any, owned: Sequence[nn.Parameter]) -> None:
    """Let the optimizer create its state, which exists in all steps but the first."""
    for parameter in owned:
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
