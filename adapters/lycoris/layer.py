"""LyCORIS' modules on our backbones' layers. Imported with torch, when a method attaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from adapters.errors import AdapterError
from adapters.hooks import HookedUpdate, MergeableAttachment, trained_like

if TYPE_CHECKING:
    from adapters.backbone import Projection
    from adapters.interchange.exported_file import ExportedFile


class WeightView(nn.Linear):
    """A projection as the Linear that LyCORIS knows: its weight (out, in) is a view of the module's own, of which a
    fused module's projection is a part, and which GPT-2's Conv1D stores transposed."""

    def __init__(self, projection: Projection):
        nn.Module.__init__(self)
        self.projection = projection
        self.in_features, self.out_features = projection.in_features, projection.out_features

    def _rows(self, tensor: Tensor) -> Tensor:
        return tensor if self.projection.rows is None else tensor[slice(*self.projection.rows)]

    @property
    def weight(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        weight = self.projection.module.weight.detach()
        return self._rows(weight.T if self.projection.transposed else weight)

    @property
    def bias(self) -> Tensor | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        bias = self.projection.module.bias
        return None if bias is None else self._rows(bias.detach())


def is_supported(projection: Projection) -> bool:
    """Whether the layer is a matrix product or a convolution."""
    return projection.transposed or isinstance(projection.module, nn.Linear | nn.Conv2d)


def is_plain(projection: Projection) -> bool:
    """Whether LyCORIS itself knows the layer: a Linear or a convolution, updated as a whole."""
    return projection.rows is None and type(projection.module) in (nn.Linear, nn.Conv2d)


def no_output(inputs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """In place of the base layer's forward, whose output a hook has already: LyCORIS adds its change to zero."""
    return inputs.new_zeros(())


class LycorisUpdate(HookedUpdate):
    """One module of LyCORIS: it adds its change of one projection to that projection's output."""

    def __init__(self, projection: Projection, kind: Any, rank: int, options: Mapping[str, Any]):
        if not is_supported(projection):
            raise AdapterError(
                f"LyCORIS does not update '{projection.name}', a {type(projection.module).__name__}: leave "
                f"{projection.group} out of --adapter.targets"
            )
        target = projection.module if is_plain(projection) else WeightView(projection)
        layer = kind("", target, 1.0, rank, bypass_mode=False, **options)
        layer.org_forward = no_output
        self.projection, self.layer = projection, layer.to(**trained_like(projection.module))
        self.child = f"{self.PREFIX}lycoris" + ("" if projection.rows is None else f"_{projection.part}")
        super().__init__(projection.module, {})
        projection.module.add_module(self.child, self.layer)
        self.names = [name for name, _ in layer.named_parameters()]

    def __getitem__(self, name: str) -> nn.Parameter:
        return self.layer.get_parameter(name)

    def remove(self) -> None:
        self.disable()
        delattr(self.module, self.child)

    def update(self, args: tuple, kwargs: dict, output: Tensor) -> Tensor:
        like = next(self.layer.parameters(), output)
        change = self.layer(args[0].to(like.dtype)).to(output.dtype)
        if self.projection.rows is None or not change.ndim:  # a scalar zero: the module was dropped out
            return output + change
        first, last = self.projection.rows
        return output + nn.functional.pad(change, (first, output.shape[-1] - last))

    def change(self) -> tuple[Tensor, Tensor | None]:
        """The changes of weight (out, in, ...) and bias: what the module's own forward passes to its operation.

        They have the dtype of what trains. Not `get_merged_weight`, which disagrees with the forward pass of lokr (its
        scale counts twice).
        """
        passed: list[Any] = []

        def operation(inputs: Tensor, weight: Tensor, bias: Tensor | None = None, **kwargs: Any) -> Tensor:
            passed.extend((weight, bias))
            return inputs.new_zeros(())

        layer = self.layer
        op, org_module, training = layer.op, layer.org_module, layer.training
        base, like = org_module[0], next(layer.parameters(), self.projection.module.weight)
        bias = None if base.bias is None else base.bias.to(like)
        layer.op, layer.org_module = operation, [SimpleNamespace(weight=base.weight.to(like), bias=bias)]
        try:
            layer.eval()(like.new_zeros(()))
        finally:
            layer.op, layer.org_module = op, org_module
            layer.train(training)
        return passed[0], passed[1]

    def in_module(self, change: Tensor, whole: Tensor) -> Tensor:
        """A change of the projection's rows in the layout of the module's parameter `whole`."""
        if self.projection.rows is not None:
            first, last = self.projection.rows
            length = whole.shape[-1 if self.projection.transposed else 0]
            change = nn.functional.pad(change, (*[0, 0] * (change.ndim - 1), first, length - last))
        return change.T if self.projection.transposed and change.ndim == 2 else change


class LycorisAttachment(MergeableAttachment[LycorisUpdate]):
    """One algorithm of LyCORIS on one model."""

    def changes(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        for update in self.updates.values():
            module = update.module
            for whole, change in zip((module.weight, module.bias), update.change(), strict=True):
                if whole is not None and change is not None:
                    yield whole, update.in_module(change, whole)

    def rescale(self, factor: float) -> None:
        for update in self.updates.values():
            update.layer.multiplier *= factor

    def export(self, format: str | None = None) -> list[ExportedFile]:
        """LyCORIS' file; nothing without a `format`, since neither diffusers nor transformers loads it."""
        from adapters.lycoris.file import export_lycoris

        if format is None:
            return []
        if format != "lycoris":
            raise AdapterError(f"LyCORIS has no format '{format}': choose lycoris")
        return export_lycoris(layers_by_name(self.updates), self.backbone)


def layers_by_name(updates: Mapping[str, LycorisUpdate]) -> dict[str, Any]:
    """LyCORIS' modules by the name of their layer. Raises AdapterError if its own tools could not load one of them."""
    layers = {}
    for update in updates.values():
        name = update.projection.name
        if not is_plain(update.projection):
            raise AdapterError(
                f"LyCORIS' own tools do not load an update of '{name}', a {type(update.module).__name__}: merge the "
                "run into its model instead (format merged)"
            )
        layers[name] = update.layer
    return layers
