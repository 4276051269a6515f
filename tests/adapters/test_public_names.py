"""`from adapters import ...`: the names are all there, and importing them loads no torch."""

import subprocess
import sys

import pytest

import adapters
from adapters.base import Adapter, adapter_registry


def test_every_name_is_importable():
    assert sorted(adapters.MODULES) == sorted(adapters.__all__)
    for name in adapters.__all__:
        assert getattr(adapters, name).__name__ == name
        assert name in dir(adapters)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Lorra'"):
        adapters.Lorra  # noqa: B018


def test_every_method_of_this_package_has_a_public_name():
    public = {getattr(adapters, name) for name in adapters.__all__}
    ours = {cls for cls in adapter_registry().values() if cls.__module__.startswith("adapters.")}
    assert ours < public


def test_importing_all_names_loads_no_torch():
    program = "from adapters import *; from adapters.base import adapter_registry; import sys\n"
    program += "adapter_registry(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "adapters.lora" in modules
    assert not {"torch", "peft", "transformers", "diffusers"} & set(modules)


def test_abstract_classes_cannot_be_instantiated():
    """Without ABC, `@abstractmethod` would have no effect."""
    for name in ("Adapter", "Attachment", "HookedUpdate", "MergeableAttachment", "Backbone"):
        with pytest.raises(TypeError, match="abstract"):
            getattr(adapters, name)()


def test_other_names_belong_to_one_method_each():
    """They are lower-case, and none is a method's real name."""
    names = [name for cls in adapter_registry().values() for name in (*cls.other_names, *cls.name_hints)]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() for name in names)
    assert not {*names} & {*adapter_registry()}


def test_option_hints_are_not_options():
    for cls in adapter_registry().values():
        assert issubclass(cls, Adapter)
        assert not {*cls.option_hints} & {*cls.__dataclass_fields__}
