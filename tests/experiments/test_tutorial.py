"""The tutorial notebook runs from its first cell to its last, on the bundled base, with fewer steps and items."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
STEPS = re.compile(r'(?<=\bsteps=)\d+|(?<=\btrain\.steps"\] == )\d+')
ITEMS = re.compile(r"(?<=_items=)\d\d+")
TASK = re.compile(r"\b(Pokemon|DreamBooth)\(")


def smaller(source: str) -> str:
    source = STEPS.sub(lambda number: str(int(number[0]) // 10), source)
    source = ITEMS.sub(lambda number: str(max(2, int(number[0]) // 4)), source)
    return TASK.sub(r"\1(num_inference_steps=2, ", source)


@pytest.mark.slow
def test_the_tutorial_runs():
    notebook = nbformat.read(ROOT / "experiments" / "tutorial.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        cell.source = smaller(cell.source)
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = [output for cell in code for output in cell.outputs]
    printed = [output.text for output in outputs if output.output_type == "stream" and output.name == "stdout"]
    assert any("KID x1000" in text for text in printed)
