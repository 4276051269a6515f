"""The parser of the maintainers' commands in this package: wrong input ends in one sentence, as in `experiments`."""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from typing import NoReturn


class CommandParser(ArgumentParser):
    """An argparse parser with the defaults in its help."""

    def __init__(self, prog: str, description: str | None):
        super().__init__(
            prog, description=description, formatter_class=ArgumentDefaultsHelpFormatter, allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")
