"""The tutorial notebook runs from its first cell to its last, on the bundled base."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]


def test_the_tutorial_runs():
    notebook = nbformat.read(ROOT / "experiments" / "tutorial.ipynb", as_version=4)
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(ROOT)}}).execute()
    printed = [
        output.text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    ]
    assert any("KID x1000" in text for text in printed)
