"""The house's rules that hold for all packages."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import adapters

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "adapters": {"adapters"},
    "tasks": {"tasks", "adapters"},
    "experiments": {"experiments", "tasks", "adapters"},
    "reports": {"reports"},
}


def test_adapters_is_this_projects_package():
    """AdapterHub's distribution is imported as `adapters` too."""
    assert Path(adapters.__file__).parent == ROOT / "adapters"


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_take_one_direction(package):
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                top = module.split(".")[0]
                assert top not in ALLOWED or top in ALLOWED[package], f"{file} imports {module}"
                if package == "tasks" and top == "adapters":
                    assert module == "adapters.backbone", f"{file} imports {module}"


def test_help_imports_no_torch():
    program = "import sys; sys.argv = ['run', 'lora', 'sd-pokemon', '--help']\n"
    program += "from experiments.run import main\n"
    program += "try:\n    main()\nexcept SystemExit: pass\n"
    program += (
        "heavy = {'torch', 'transformers', 'diffusers', 'pandas', 'numpy'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
