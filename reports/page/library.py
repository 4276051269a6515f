"""Plotly's script from its Python package, and the content security policy of a page that embeds it."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

TEMPLATES = Path(__file__).parents[1] / "templates"
# Plotly adds its rules to the style element with this name through the CSSOM, which the policy permits; it would
# otherwise create an element of its own, which the policy blocks.
STYLE_ID = "plotly.js-style-global"


@cache
def plotly_script() -> str:
    """The source of plotly.js, without anything that could close the script element around it."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs().replace("</script", "<\\/script").replace("<!--", "<\\!--")


def skipped_styles() -> list[str]:
    """Names of style elements for its maps that Plotly adds to a page unless an element of that name exists.

    The policy blocks them and the page draws no maps, so the page has empty elements of these names.
    """
    return re.findall(r'if\(!document\.getElementById\("([0-9a-f]{64})"\)\)', plotly_script())


def source(*names: str) -> str:
    return "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)


def policy(style: str, *scripts: str) -> str:
    """Allow only this style, these scripts (by hash) and embedded pictures."""
    allowed = " ".join(_hash(script) for script in scripts)
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {allowed}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
