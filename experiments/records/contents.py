"""What a run's record says of its configuration, model and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.config import RunConfig, size_of
from experiments.precision import as_record
from experiments.records.folder import RunFolder
from experiments.records.provenance import provenance

if TYPE_CHECKING:
    import torch

    from adapters.base import Attachment
    from tasks.base import Evaluation, PreparedTask


def head_of(config: RunConfig, folder: RunFolder, device: torch.device) -> dict[str, Any]:
    """The entries that are known before training."""
    size_field, size = config.adapter.size_field, size_of(config.adapter)
    return {
        "source": "run",
        "task": config.task.name,
        "method": config.adapter.label,
        "fingerprint": folder.path.name,
        "seed": config.train.seed,
        "size": None if size is None else {"field": size_field, "value": size},
        "primary_metric": config.task.primary_metric,
        "config": config.as_record(),
        "content": config.content,
        "precision": as_record(config.task, config.train, device),
        **provenance(str(device)),
    }


def figures_of(config: RunConfig, evaluation: Evaluation) -> dict[str, Any]:
    """Every finite figure with its metric's unit, direction and meaning, and the one that tables sort by."""
    metrics, primary = config.task.all_metrics(), config.task.primary_metric
    undefined = evaluation.undefined()
    figures = {name: figure for name, figure in evaluation.figures.items() if name not in undefined}
    return {
        "primary_metric": primary if primary in figures else next(iter(figures), primary),
        "metrics": {name: figure.as_record() | metrics[name].as_record() for name, figure in figures.items()},
    }


def parameters_of(prepared: PreparedTask, attachment: Attachment) -> dict[str, int]:
    """Counts of trainable and of all parameters; the adapter's own are part of the total."""
    owned = attachment.parameters()
    identities = {id(parameter) for parameter in owned.values()}
    frozen = sum(p.numel() for p in prepared.backbone.model.parameters() if id(p) not in identities)
    trainable = sum(parameter.numel() for parameter in owned.values())
    return {"trainable": trainable, "total": frozen + trainable}


def facts_of(prepared: PreparedTask, attachment: Attachment, evaluation: Evaluation | None = None) -> dict[str, Any]:
    """The facts of task and method. The model's positions are left for input unless the method takes some."""
    facts: dict[str, Any] = prepared.facts | {"positions_left": prepared.backbone.positions} | attachment.facts
    return facts if evaluation is None else with_reasons(facts, evaluation)


def with_reasons(facts: dict[str, Any], evaluation: Evaluation) -> dict[str, Any]:
    """The facts and why metrics have no figure, as `not_measured`."""
    not_measured = {**facts.get("not_measured", {}), **evaluation.not_measured, **_undefined(evaluation)}
    return facts | {"not_measured": not_measured} if not_measured else facts


def _undefined(evaluation: Evaluation) -> dict[str, str]:
    """The reason for each figure without a finite value, with the base's value if there is one."""
    bases = {name: evaluation.figures[name].base for name in evaluation.undefined()}
    return {
        name: "its value is not a finite number" + ("" if base is None else f", the base's is {base:.3g}")
        for name, base in bases.items()
    }
