"""Every number that a user can give has bounds where it is declared."""

from dataclasses import MISSING, fields
from typing import Any

import pytest

from adapters.bounds import BOUNDS
from experiments.cli.parser import parse_options
from experiments.errors import UsageError
from tests.fuzz.inputs import numeric_fields, option_classes

CLASSES = option_classes()


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_every_number_declares_its_bounds(cls):
    bounds: dict[str, Any] = {f.name: f.metadata.get(BOUNDS) for f in fields(cls)}
    for name in numeric_fields(cls):
        assert bounds[name] is not None, f"{cls.__name__}.{name}: declare it with adapters.bounds.bounded"
        for wrong in (float("nan"), float("inf"), -float("inf"), 10**25):
            assert not bounds[name].hold(wrong), (name, wrong)
        default = next(f.default for f in fields(cls) if f.name == name)
        for number in default if isinstance(default, tuple) else [default]:
            assert number in (None, MISSING) or bounds[name].hold(number), (name, number)


def test_the_numbers_of_the_commands_are_found():
    found = {name: numeric_fields(cls) for name, cls in CLASSES.items()}
    assert found["sample"] == ["num_images_per_prompt", "num_inference_steps", "guidance_scale", "seed", "scale"]
    assert {"sizes", "seeds", "jobs", "search_share"} <= set(found["sweep"])
    assert "ranks" in found["adapter.lora"]
    assert {"learning_rate", "seed"} <= set(found["train"])


def test_a_commands_own_numbers_are_checked_while_parsing():
    program = "python -m experiments.truncate"
    assert parse_options(CLASSES["truncate"], ["RUN", "--ranks", "1", "2"], program).ranks == (1, 2)
    with pytest.raises(UsageError, match="--ranks must be at least 1 and at most 65536, not 1 0"):
        parse_options(CLASSES["truncate"], ["RUN", "--ranks", "1", "0"], program)
