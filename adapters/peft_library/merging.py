"""The base's parameters with one of peft's methods merged into them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterError, first_line

if TYPE_CHECKING:
    from torch import Tensor, nn


def merged_parameters(attachment: Any) -> dict[nn.Parameter, Tensor]:
    """The values of the base's parameters that give the attached adapter's output; the model does not change.

    Raises AdapterError if peft cannot merge the method, or if the base with these values has another output, as for a
    method that is not a change of weights.
    """
    import torch

    method = str(attachment.wrapped.peft_type.value).lower()
    parameters = [p for p in attachment.base.flags if not p.is_meta]
    before = {parameter: parameter.detach().clone() for parameter in parameters}
    tuned = _output(attachment)
    try:
        merged = _merge(attachment, parameters)
    except Exception as failure:  # each of peft's layers has a merge of its own
        raise AdapterError(
            f"peft's {method} cannot be merged into the weights ({first_line(failure) or type(failure).__name__}), so "
            "it has no weight change: choose a run of another method"
        ) from None
    finally:
        set_parameters(before)
    with attachment.base.restored():
        set_parameters(merged)
        same = torch.allclose(_output(attachment), tuned, rtol=1e-3, atol=1e-3 * float(tuned.abs().max()))
        set_parameters(before)
    if not same:
        raise AdapterError(
            f"peft's {method} is not a change of the model's own weights: choose a run of another method"
        )
    return merged


def _merge(attachment: Any, parameters: list[nn.Parameter]) -> dict[nn.Parameter, Tensor]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in attachment.wrapped.modules() if isinstance(module, BaseTunerLayer)]
    try:
        for layer in layers:
            layer.merge(safe_merge=False)
        return {parameter: parameter.detach().clone() for parameter in parameters}
    finally:
        for layer in layers:
            if layer.merged:
                layer.unmerge()


def _output(attachment: Any) -> Tensor:
    """The model's output for its example input."""
    import torch

    backbone = attachment.backbone
    weight, training = next(backbone.model.parameters()), backbone.model.training
    inputs = {
        name: tensor.to(weight.device, weight.dtype if tensor.is_floating_point() else None)
        for name, tensor in backbone.example_input(torch.Generator().manual_seed(0)).items()
    }
    try:
        with torch.no_grad():
            return backbone.model.eval()(**inputs)[0].float()
    finally:
        backbone.model.train(training)


def set_parameters(values: Mapping[nn.Parameter, Tensor]) -> None:
    """Copy the values into their parameters."""
    import torch

    with torch.no_grad():
        for parameter, value in values.items():
            parameter.copy_(value)
