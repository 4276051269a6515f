"""Every name that a package exports can be imported."""

from importlib import import_module

import pytest

PACKAGES = ("adapters", "experiments", "reports", "tasks")
NAMES = [(package, name) for package in PACKAGES for name in import_module(package).__all__]


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_an_exported_name_is_importable(package, name):
    assert getattr(import_module(package), name) is not None


@pytest.mark.parametrize("package", PACKAGES)
def test_a_star_import_works(package):
    names = {}
    exec(f"from {package} import *", names)
    assert set(import_module(package).__all__) <= names.keys()
