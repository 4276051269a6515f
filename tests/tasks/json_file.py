"""Edit configuration files of a base."""

import json
from pathlib import Path
from typing import Any


def edit_json(file: Path, **values: Any) -> None:
    """Change entries of a JSON object."""
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
