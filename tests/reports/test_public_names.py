"""`from reports import ...`: the names are all there, and they are listed."""

import reports
from reports import *  # noqa: F403


def test_every_name_is_importable():
    assert sorted(reports._MODULES) == sorted(reports.__all__)
    for name in reports.__all__:
        assert globals()[name] is getattr(reports, name)
        assert globals()[name].__name__ == name
        assert name in dir(reports)
