"""Tasks to fine-tune on; `from tasks import Pokemon, EndToEnd, ...` imports no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.bad_items import BadItem, BadItems, OnBadItem
    from tasks.base import (
        Evaluation,
        Figure,
        LoadedBase,
        MetaModel,
        Metric,
        PreparedTask,
        Task,
        declare,
        task_registry,
    )
    from tasks.diffusion.dreambooth import DreamBooth
    from tasks.diffusion.planted import PlantedDenoiser
    from tasks.diffusion.pokemon import Pokemon
    from tasks.errors import TaskError
    from tasks.language.e2e import EndToEnd
    from tasks.language.facts import Facts
    from tasks.language.planted import Planted
    from tasks.language.sft import Sft
    from tasks.language.style import Style

_MODULES = {
    "tasks.bad_items": ("BadItem", "BadItems", "OnBadItem"),
    "tasks.base": (
        "Evaluation",
        "Figure",
        "LoadedBase",
        "MetaModel",
        "Metric",
        "PreparedTask",
        "Task",
        "declare",
        "task_registry",
    ),
    "tasks.diffusion.dreambooth": ("DreamBooth",),
    "tasks.diffusion.planted": ("PlantedDenoiser",),
    "tasks.diffusion.pokemon": ("Pokemon",),
    "tasks.errors": ("TaskError",),
    "tasks.language.e2e": ("EndToEnd",),
    "tasks.language.facts": ("Facts",),
    "tasks.language.planted": ("Planted",),
    "tasks.language.sft": ("Sft",),
    "tasks.language.style": ("Style",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [  # noqa: RUF022  (tasks first)
    "Pokemon",
    "DreamBooth",
    "EndToEnd",
    "Style",
    "Sft",
    "Planted",
    "PlantedDenoiser",
    "Facts",
    "Task",
    "PreparedTask",
    "LoadedBase",
    "MetaModel",
    "Metric",
    "declare",
    "Figure",
    "Evaluation",
    "BadItem",
    "BadItems",
    "OnBadItem",
    "TaskError",
    "task_registry",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'tasks' has no attribute '{name}'")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
