"""Format numbers, intervals and tables as text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence


def one_line(text: str) -> str:
    """Replace control characters (a name may hold an escape sequence) and collapse whitespace."""
    return " ".join("".join(c if c.isprintable() or c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text).split())


def join_sorted(words: Iterable[str], separator: str = ", ") -> str:
    return separator.join(sorted(words))


def count_text(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def range_text(low: object, high: object) -> str:
    """`low to high`, or a single text if both read the same."""
    return " to ".join(dict.fromkeys((str(low), str(high))))


def decimals(value: float, low: float | None = None, high: float | None = None) -> int:
    """Decimal places that show two digits of the interval's half-width, or four digits of a value without one."""
    spread = (high - low) / 2 if low is not None and high is not None and high > low else abs(value) / 100
    return 0 if spread == 0 else max(0, min(8, 1 - math.floor(math.log10(spread))))


def short_text(value: float) -> str:
    """Two digits, or more for a number that has more before the decimal point; never an exponent."""
    return f"{value:.{0 if value == 0 else max(0, min(8, 1 - math.floor(math.log10(abs(value)))))}f}"


def number_text(value: float) -> str:
    """Four digits."""
    return f"{value:.{decimals(value)}f}"


def interval_text(value: float, low: float | None, high: float | None, brackets: str) -> str:
    """The value with its interval in `brackets`, "[]" over seeds or "()" over items; alone if it has none."""
    places = decimals(value, low, high)
    if low is None or high is None:
        return f"{value:.{places}f}"
    return f"{value:.{places}f} {brackets[0]}{low:.{places}f}, {high:.{places}f}{brackets[1]}"


def amount_text(value: float, unit: str) -> str:
    """Three digits, with the unit prefix that makes them short: 3.75 MB, 937 k, 101 s."""
    if unit == "s" and value >= 0.1:
        return f"{value:.3g} s" if value < 1000 else f"{value / 60:.0f} min"
    for power, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= power and unit != "s":
            return f"{value / power:.3g} {prefix}{unit}"
    if unit == "s" and value > 0:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.3g} {unit}".strip()


def mixture_warning(what: str, values: Iterable[object]) -> str | None:
    """The warning that `values`, one per record, are not all the same; None if they are."""
    kinds = Counter(str(value) if value is not None else "none recorded" for value in values)
    if len(kinds) < 2:
        return None
    shown = f": {join_sorted(f'{kind} ({n})' for kind, n in kinds.items())}" if max(map(len, kinds)) <= 60 else ""
    return f"Warning: this mixes {len(kinds)} {what}{shown}."


def tabulated(rows: Sequence[Sequence[str]], align: Sequence[str], form: str, lines: Sequence[str]) -> str:
    """A table whose first row is its header, in the form "md", "latex" or "terminal", and notes below it."""
    from tabulate import tabulate

    if form == "md":
        rows = [[cell.replace("|", "\\|").replace("<", "&lt;") for cell in row] for row in rows]
    style = {"md": "github", "latex": "latex_booktabs", "terminal": "simple"}[form]
    text = tabulate(rows[1:], rows[0], tablefmt=style, disable_numparse=True, colalign=align)
    if form == "latex":  # pdflatex rejects the arrows as characters
        text = text.replace("↓", "$\\downarrow$").replace("↑", "$\\uparrow$")
    gap, mark = {"md": (["", ""], "- "), "latex": ([""], "% "), "terminal": (["", ""], "")}[form]
    return "\n".join(gap).join([text, "".join(f"{mark}{line}\n" for line in lines)])
