"""Main effects of the settings of a sweep: an additive linear model of a metric, one per method (statsmodels).

metric = mean + effect(setting 1) + effect(setting 2) + ..., each setting with one effect per value, or, with more than
LEVELS values, a slope over the setting (over its logarithm if it spans a factor of ten). A setting's F test compares
the model with and without it (type II sums of squares).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reports.errors import ReportError
from reports.run_groups import RunGroup, settings_text, value_text, versions_of
from reports.statistics.gains import is_perplexity
from reports.sweeps.axes import RATE, differences_text, in_order, is_number, settings_with_size, varied
from reports.tables import Table
from reports.text.format import count_text, interval_text, one_line, tabulated

if TYPE_CHECKING:
    import pandas as pd

LEVELS = 8  # values of a setting that have an effect each
DECADE = 10.0  # a setting that spans this factor is modelled on a log scale
METRIC_SPAN = 30.0  # a metric that spans more, too


@dataclass(frozen=True)
class Level:
    """The model's mean at one value of a setting, the other settings averaged over the runs, with its 95 % interval."""

    value: Any
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Effect:
    """One setting: its share of the metric's variance (type II sum of squares / total), F test, and levels."""

    setting: str
    share: float
    p: float
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class Model:
    """The additive model of one method's runs."""

    method: str
    metric: str
    log: bool  # the metric's logarithm is modelled, so effects are factors
    runs: int
    failed: int
    explained: float  # R squared
    residual_df: int
    effects: tuple[Effect, ...]  # the largest share first
    confounded: tuple[str, ...]  # settings whose effect cannot be told from the others'

    @property
    def title(self) -> str:
        return f"{self.method}, {count_text(self.runs, 'run')}"


def main_effects(table: Table, metric: str | None = None) -> list[Model]:
    """A model per method whose runs differ in a setting and outnumber its parameters.

    Raises ReportError, with what varied, if there is no such method.
    """
    name = metric or table.primary_metric
    if name is None:
        raise ReportError(f"no run of '{table.task}' has a metric")
    if len({settings_text(versions_of(group)) for group in table.rows}) > 1:
        raise ReportError(
            f"the runs of '{table.task}' have several versions of the base or of the data, whose effect would be taken "
            "for that of other settings: give --runs a folder with the runs of one version"
        )
    methods = {group.method: [other for other in table.rows if other.method == group.method] for group in table.rows}
    models = [model for groups in methods.values() if (model := _model(groups, name))]
    if not models:
        raise ReportError(
            f"the main effects of '{table.task}' need a method with more finished runs than its settings have values: "
            f"{differences_text(varied(table.rows))}; run more of the grid or more seeds"
        )
    return sorted(models, key=lambda model: -model.runs)


def _model(groups: Sequence[RunGroup], metric: str) -> Model | None:
    import pandas as pd

    rows = [settings_with_size(g) | {"": v} for g in groups for v in g.values(metric)]
    measured = [group for group in groups if group.values(metric)]
    factors = {name: values for name, values in varied(measured).items() if all(name in row for row in rows)}
    if not rows or not factors:
        return None
    observed = pd.Series([row[""] for row in rows], dtype=float)
    wide = observed.max() > METRIC_SPAN * observed.min()
    log = bool(observed.min() > 0 and (wide or is_perplexity(metric)))
    followed = {RATE} if _rate_follows(rows, factors) else set()
    columns = {
        name: _columns([row[name] for row in rows], values) for name, values in factors.items() if name not in followed
    }
    kept = _identified(columns)
    parts = {name: columns[name] for name in kept}
    if not parts or len(rows) <= 1 + sum(part.shape[1] for part in parts.values()) or observed.nunique() < 2:
        return None
    return _fitted(groups, rows, metric, observed.map(math.log) if log else observed, log, parts, factors)


def _rate_follows(rows: Sequence[Mapping[str, Any]], factors: Mapping[str, Sequence[Any]]) -> bool:
    """Whether each combination of the other settings has one learning rate, as after a search for each of them.

    Its effect is then theirs. Settings that are modelled by a slope are not counted: all of their values may differ.
    """
    others = [name for name, values in factors.items() if name != RATE and not _is_slope(values)]
    if RATE not in factors or not others:
        return False
    rates: dict[tuple[str, ...], set[Any]] = defaultdict(set)
    for row in rows:
        rates[tuple(value_text(row[name]) for name in others)].add(row[RATE])
    return max(map(len, rates.values())) == 1


def _identified(columns: Mapping[str, pd.DataFrame]) -> list[str]:
    """The settings whose columns add to the rank of those before them; the others follow from them."""
    import numpy as np

    kept: list[str] = []
    rank = 1
    for name in sorted(columns, key=lambda name: (columns[name].shape[1], name)):
        whole = np.column_stack([np.ones(len(columns[name])), *(columns[other] for other in [*kept, name])])
        if (grown := int(np.linalg.matrix_rank(whole))) == rank + columns[name].shape[1]:
            kept, rank = [*kept, name], grown
    return kept


def _columns(values: Sequence[Any], distinct: Sequence[Any]) -> pd.DataFrame:
    """The columns of a setting, centred: an indicator for each value but the first, or the (logarithmic) number."""
    import pandas as pd

    if _is_slope(distinct):
        scale = _scale(distinct)
        columns = pd.DataFrame({"slope": [scale(value) for value in values]})
    else:
        texts = [value_text(value) for value in values]
        columns = pd.DataFrame({value_text(d): [float(text == value_text(d)) for text in texts] for d in distinct[1:]})
    return columns - columns.mean()


def _is_slope(distinct: Sequence[Any]) -> bool:
    return len(distinct) > LEVELS and all(map(is_number, distinct))


def _scale(distinct: Sequence[float]):
    logarithmic = min(distinct) > 0 and max(distinct) >= DECADE * min(distinct)
    return math.log10 if logarithmic else float


def _fitted(
    groups: Sequence[RunGroup],
    rows: Sequence[Mapping[str, Any]],
    metric: str,
    observed: pd.Series,
    log: bool,
    parts: Mapping[str, pd.DataFrame],
    factors: Mapping[str, Sequence[Any]],
) -> Model:
    import numpy as np
    from statsmodels.regression.linear_model import OLS

    def design(names: Sequence[str]) -> np.ndarray:
        return np.column_stack([np.ones(len(observed)), *(parts[name] for name in names)])

    names = list(parts)
    fit = OLS(observed.to_numpy(), design(names)).fit()
    total = float(((observed - observed.mean()) ** 2).sum())
    effects = []
    for name in names:
        reduced = OLS(observed.to_numpy(), design([other for other in names if other != name])).fit()
        _, p, _ = fit.compare_f_test(reduced)
        levels = _levels(fit, names, name, parts, [row[name] for row in rows], factors[name], log)
        effects.append(Effect(name, max(0.0, float(reduced.ssr - fit.ssr)) / total, float(p), levels))
    return Model(
        groups[0].method,
        metric,
        log,
        len(rows),
        sum(len(group.failed) for group in groups),
        float(fit.rsquared),
        int(fit.df_resid),
        tuple(sorted(effects, key=lambda effect: -effect.share)),
        tuple(name for name in factors if name not in parts),
    )


def _levels(
    fit: Any,
    names: Sequence[str],
    name: str,
    parts: Mapping[str, pd.DataFrame],
    values: Sequence[Any],
    distinct: Sequence[Any],
    log: bool,
) -> tuple[Level, ...]:
    """The prediction at each value of one setting; the columns are centred, so 0 is the average of the others."""
    import numpy as np

    texts = [value_text(value) for value in values]
    shown = distinct if len(distinct) <= LEVELS else [distinct[0], distinct[-1]]
    found = []
    for value in in_order(shown):
        own = parts[name].iloc[texts.index(value_text(value))].to_numpy()
        at = [own if other == name else np.zeros(parts[other].shape[1]) for other in names]
        predicted = fit.get_prediction(np.concatenate([[1.0], *at])[None]).summary_frame(alpha=0.05)
        numbers = [float(predicted[column].iloc[0]) for column in ("mean", "mean_ci_lower", "mean_ci_upper")]
        found.append(Level(value, *(math.exp(min(number, 700.0)) if log else number for number in numbers)))
    return tuple(found)


HOW = (
    "Share: of the variance, by the F test's type II sum of squares. Means: at a value of the setting with the others "
    "at their average, with 95 % intervals. Interactions between settings count as noise."
)


def effect_notes(model: Model) -> list[str]:
    """How a model was fitted, and what it leaves out."""
    scale = f"the logarithm of {model.metric}" if model.log else model.metric
    notes = [
        f"{one_line(model.title)}: additive linear model of {scale}, R squared {model.explained:.3f}, "
        f"{count_text(model.residual_df, 'residual degree')} of freedom."
    ]
    if model.failed:
        left = count_text(model.failed, "failed run")
        notes.append(f"{left} without the metric left out: the effects are those of runs that finished.")
    if model.confounded:
        names = ", ".join(map(one_line, model.confounded))
        notes.append(f"Left out, because these settings change only together with others: {names}.")
    return notes


def render_effects(table: Table, form: str) -> str:
    """One table per method: a row per setting and value."""
    parts = []
    for model in main_effects(table):
        rows = [["setting", "share of variance", "p", "value", f"mean {model.metric}"]]
        for effect in model.effects:
            for i, level in enumerate(effect.levels):
                first = [one_line(effect.setting), f"{effect.share:.3f}", f"{effect.p:.2g}"] if i == 0 else ["", "", ""]
                text = interval_text(level.mean, level.low, level.high, "[]")
                rows.append([*first, one_line(value_text(level.value)), text])
        parts.append(tabulated(rows, ["left", "right", "right", "right", "right"], form, [*effect_notes(model), HOW]))
    return "\n".join(parts)
