"""The one verdict on two groups of runs, which the table, `compare`, the page and the plots' notes all show.

The planned contrasts of a table compare each group with the reference: the group that trains all weights of the model.
Holm's correction counts these alone, whatever is shown. Any other pair was chosen after looking at the figures, so its
correction counts all pairs without the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np

from reports.records import Run
from reports.run_groups import RunGroup, versions_of
from reports.statistics.gains import moved_by_gain
from reports.statistics.power import detectable_difference, levels_in_use
from reports.statistics.seeds import LEVEL, Estimate, difference, holm

MARGIN = 0.05  # of the reference's gain over the untuned base: differences below it count as none
MARGIN_TEXT = f"{100 * MARGIN:g} %"
TRAIN_ORDER = ("batch_size", "gradient_accumulation_steps", "num_processes")  # settings that order a seed's data

Pair = tuple[int, int]


@dataclass(frozen=True)
class Verdict:
    """A group against another in one metric; the p-value is corrected, and None if the seeds cannot tell.

    `detectable` is the true difference that is found with a probability of 80 % at `level`, Holm's level of this
    comparison. `equivalent` says whether the difference is shown to be within 5 % of the reference's gain over the
    untuned base; None if no such margin is known.
    """

    difference: Estimate | None
    p: float | None
    better: bool | None  # None unless the difference is significant after the correction
    level: float | None = None
    equivalent: bool | None = None
    paired: bool = False

    @property
    def detectable(self) -> float | None:
        if self.difference is None or self.level is None:
            return None
        return detectable_difference(self.difference, self.level)

    @property
    def text(self) -> str:
        if self.p is None:
            return "cannot tell"
        words = "not significant" if self.better is None else "better" if self.better else "worse"
        return f"{words}, within {MARGIN_TEXT}" if self.equivalent else words

    @property
    def text_with_p(self) -> str:
        if self.better is None or self.p is None:
            return self.text
        words, comma, rest = self.text.partition(",")
        return f"{words} (p {self.p:.2g}){comma}{rest}"

    def reversed(self) -> Verdict:
        """The verdict on the other group against this one."""
        flipped = self.difference and replace(self.difference, value=-self.difference.value)
        return replace(self, difference=flipped, better=None if self.better is None else not self.better)


class Verdicts:
    """Verdicts on pairs of a table's groups in one metric; a pair is (group, reference), by index."""

    def __init__(self, groups: Sequence[RunGroup], metric: str, lower_is_better: bool, planned: RunGroup | None):
        self.lower_is_better, self.metric = lower_is_better, metric
        self.groups = {i: group for i, group in enumerate(groups) if group.values(metric)}
        self.planned = next((i for i, group in self.groups.items() if group is planned), None)

    def of(self, group: int, reference: int) -> Verdict | None:
        """None if a group lacks the metric, or if the planned reference has another version of the base or the data."""
        family = self._contrasts if self.planned in (group, reference) else self._other_pairs
        if (group, reference) in family:
            return family[group, reference]
        return family[reference, group].reversed() if (reference, group) in family else None

    @cached_property
    def _contrasts(self) -> dict[Pair, Verdict]:
        if self.planned is None:
            return {}
        versions = versions_of(self.groups[self.planned])
        same = [i for i, group in self.groups.items() if i != self.planned and versions_of(group) == versions]
        verdicts = self._family([(i, self.planned) for i in same])
        equivalent = holm([self._p_not_equivalent(pair) for pair in verdicts])
        return {
            pair: replace(verdict, equivalent=None if p is None else p < 1 - LEVEL)
            for (pair, verdict), p in zip(verdicts.items(), equivalent, strict=True)
        }

    @cached_property
    def _other_pairs(self) -> dict[Pair, Verdict]:
        return self._family([*combinations([i for i in self.groups if i != self.planned], 2)])

    def _family(self, pairs: Sequence[Pair]) -> dict[Pair, Verdict]:
        """The verdicts on comparisons that are corrected together."""
        found = [self._difference(pair) for pair in pairs]
        p_values = [each.p if each else None for each in found]
        adjusted, levels = holm(p_values), levels_in_use(p_values, 1 - LEVEL)
        return {
            pair: Verdict(each, p, self._better(each, p), level, paired=self._paired(pair))
            for pair, each, p, level in zip(pairs, found, adjusted, levels, strict=True)
        }

    def _better(self, found: Estimate | None, p: float | None) -> bool | None:
        return None if found is None or p is None or p >= 1 - LEVEL else (found.value < 0) == self.lower_is_better

    def _difference(self, pair: Pair, shift: float = 0.0) -> Estimate | None:
        """The pair's difference; `shift` moves the second group by this share of its gain over the untuned base."""
        first, second = (self._values(i) for i in pair)
        if shift:
            base = self._base(pair[1])
            second = None if base is None else moved_by_gain(self.metric, second, base, shift)
        return None if second is None else difference(first, second, self._paired(pair))

    def _p_not_equivalent(self, pair: Pair) -> float | None:
        """Two one-sided tests (Schuirmann 1987): the larger p-value of "below" and "above the reference by the margin".

        The margin is a share of the reference's gain, which is itself an estimate. So the tests compare with the
        reference's runs shifted by that share, which accounts for its noise too.
        """
        base = self._base(pair[1])
        gain = 0.0 if base is None else float(self._values(pair[1]).mean()) - base
        sign = -1 if self.lower_is_better else 1
        if sign * gain <= 0:
            return None
        below, above = (self._difference(pair, shift * sign * MARGIN) for shift in (-1, 1))  # the shifted references
        return None if below is None or above is None else max(below.p_not_above, 1 - above.p_not_above)

    def _values(self, group: int) -> np.ndarray:
        """Values (n, r), ordered by training seed."""
        return np.array([*self.groups[group].evaluations(self.metric).values()])

    def _base(self, group: int) -> float | None:
        """The untuned base's value beside a group's runs; None if a run lacks it."""
        bases = [figure.base for figure in self.groups[group].figures(self.metric)]
        return None if None in bases else float(np.mean(np.array(bases, float)))

    def _paired(self, pair: Pair) -> bool:
        """Whether runs of one seed share data order and noise: the same seeds, evaluation, data and batches."""
        first, second = (self.groups[i] for i in pair)
        same_seeds = first.evaluations(self.metric).keys() == second.evaluations(self.metric).keys()
        return same_seeds and _order(first) == _order(second)


def _order(group: RunGroup) -> dict[str, object]:
    """A group's settings that, with the seed, decide which data and noise a step sees."""
    train = {f"train.{name}" for name in TRAIN_ORDER}
    return {
        name: value
        for name, value in group.settings.items()
        if name in train or not name.startswith(("adapter.", "train."))
    }


def planned_reference(groups: Sequence[RunGroup]) -> RunGroup | None:
    """The group whose runs train all of the model's weights; None if there is none.

    Of several, the one with the most seeds, then the one whose data order most groups share, then the one with the
    lowest loss on validation items, by which a search chooses rates too. No figure of the test has a say: a reference
    that is chosen for its figures is partly lucky.
    """
    candidates = [group for group in groups if group.finished and all(map(_trains_everything, group.finished))]
    shared = [_order(group) for group in groups]
    return max(
        candidates,
        key=lambda group: (len(group.finished), shared.count(_order(group)), -group.validation_loss),
        default=None,
    )


def _trains_everything(run: Run) -> bool:
    parameters = run.record.parameters
    return parameters is not None and parameters.trainable == parameters.total
