"""The tiny GPT-2 of the language tests."""

from tests.tasks.language.conftest import tiny_base  # noqa: F401  (a fixture)
