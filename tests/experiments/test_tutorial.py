"""The tutorial notebook runs from its first cell to its last, on the bundled base, with fewer steps and items."""

import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
SIZES = re.compile(r'(?<=\bsteps=)\d+|(?<=\btrain\.steps"\] == )\d+|(?<=_items=)\d\d+')


def test_the_tutorial_runs():
    notebook = nbformat.read(ROOT / "experiments" / "tutorial.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        cell.source = SIZES.sub(lambda number: str(max(2, int(number[0]) // 4)), cell.source)
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = [output for cell in code for output in cell.outputs]
    printed = [output.text for output in outputs if output.output_type == "stream" and output.name == "stdout"]
    assert any("KID x1000" in text for text in printed)
